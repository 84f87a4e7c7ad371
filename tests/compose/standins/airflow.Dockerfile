# Stands in for apache/airflow's slim image: its user, folders, environment and entry point.
FROM debian-standin
RUN apt-get update \
    && apt-get install --yes --no-install-recommends dumb-init curl openssh-client libpython3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --gid 0 --create-home --shell /bin/bash airflow \
    && install --directory --owner=airflow --group=root --mode=0775 /opt/airflow /opt/airflow/dags /opt/airflow/logs
ENV LANG=C.UTF-8 \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__LOAD_EXAMPLES=false \
    DUMB_INIT_SETSID=1 \
    PYTHONUNBUFFERED=1 \
    VIRTUAL_ENV=/home/airflow/.local \
    PATH=/home/airflow/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER airflow
WORKDIR /opt/airflow
COPY constraints.txt /tmp/
RUN python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt pip \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt apache-airflow
COPY --chmod=0755 tests/compose/standins/airflow-entrypoint /entrypoint
EXPOSE 8080
ENTRYPOINT ["/usr/bin/dumb-init", "--", "/entrypoint"]
