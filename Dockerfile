# Three images of one project:
#   airflow    Airflow with this provider, Celery and the edge worker; the one to take to production
#   emulator   the same with the embedded cloud, for the demo
#   host       one on-premises host of the demo: an SSH server or the gate of a Docker Engine, and a model server
#
# The slim image of Airflow, because constraints.txt pins every library of it: the full image brings providers
# (and an aiobotocore) that need other versions of boto3.
ARG AIRFLOW_IMAGE=apache/airflow:slim-3.3.2-python3.11
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What the project needs, in layers of its own: a change of its code installs none of it again.
FROM ${AIRFLOW_IMAGE} AS dependencies
USER root
# Named volumes take the owner of the folder that they first cover.
RUN install --directory --owner=airflow --group=root --mode=0770 \
    /opt/hybrid /var/lib/hybrid/secrets /var/lib/hybrid/site-secrets /var/lib/hybrid/ssh \
    /var/lib/hybrid/site /var/lib/hybrid/cloud /var/lib/hybrid/s3 /var/lib/hybrid/store
USER airflow
WORKDIR /opt/hybrid
COPY --chown=airflow:root pyproject.toml constraints.txt LICENSE ./
COPY --chown=airflow:root hybrid_provider/__init__.py hybrid_provider/
RUN touch README.md && pip install --no-cache-dir --constraint constraints.txt ".[celery,edge]"

FROM dependencies AS airflow
COPY --chown=airflow:root README.md ./
COPY --chown=airflow:root hybrid_provider hybrid_provider
RUN pip install --no-cache-dir --no-deps --force-reinstall .
COPY --chown=airflow:root containers containers
WORKDIR /opt/airflow

# sagemaker-training is published as source only, with a part in C; the compiler stays behind in this stage.
FROM dependencies AS wheels
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
USER airflow
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /tmp/wheels --constraint constraints.txt sagemaker-training

FROM dependencies AS emulator
COPY --from=wheels /tmp/wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint constraints.txt --find-links /tmp/wheels ".[emulator,examples]"
COPY --chown=airflow:root README.md ./
COPY --chown=airflow:root hybrid_provider hybrid_provider
RUN pip install --no-cache-dir --no-deps --force-reinstall .
COPY --chown=airflow:root playground playground
COPY --chown=airflow:root containers containers

FROM ${PYTHON_IMAGE} AS host
# No host key stays in the image: each host makes its own at its first start.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-server \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
    && useradd --create-home --shell /bin/sh --password '*' edge \
    && install --directory --owner=edge /var/lib/hybrid/host-keys
COPY constraints.txt /opt/host/
RUN pip install --no-cache-dir --constraint /opt/host/constraints.txt numpy onnxruntime
COPY containers/host hybrid_provider/emulator/model_server.py /opt/host/
USER edge
WORKDIR /home/edge
EXPOSE 2222 8080
CMD ["/opt/host/start"]
