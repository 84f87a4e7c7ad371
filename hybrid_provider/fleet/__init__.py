"""What a person sees of a fleet in Airflow's UI, and how they act on it."""
