"""What all layers share: an Airflow home of the tests' own, named before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile

# A test must neither read nor fill the home of whoever runs it; the e2e layer goes on to name its own.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="hybrid-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
