"""Bugs that the tests must catch; see ``python -m tests.planted``."""
