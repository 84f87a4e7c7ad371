"""Airflow connections turned into the plain values that the core takes."""
