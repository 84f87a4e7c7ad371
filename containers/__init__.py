"""What runs inside the containers of ``docker-compose.airflow.yml``, beside Airflow itself."""
