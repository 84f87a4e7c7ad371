"""Triggers: what waits while no worker slot is taken."""
