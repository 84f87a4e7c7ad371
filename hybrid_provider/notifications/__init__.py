"""Tells people of rollouts, through what Airflow's own notifiers speak."""
