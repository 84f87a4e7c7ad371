"""What a person sees of a fleet in Airflow's UI."""
