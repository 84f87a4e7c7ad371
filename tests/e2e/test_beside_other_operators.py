"""Each operator in a DAG of the amazon provider's and Airflow's own, XComs passing both ways."""

from __future__ import annotations

import shutil
from pathlib import Path

MIXED = Path(__file__).parent / "dags" / "mixed.py"


def test_the_operators_take_and_give_xcoms_of_amazon_and_standard_operators(place, run_dag):
    shutil.copy(MIXED, place.environment["AIRFLOW__CORE__DAGS_FOLDER"])

    ran = run_dag("mixed")

    assert ran.state == "success", ran.log
    assert ran.xcoms["listing"] == "model.onnx"
    assert ran.xcoms["report"] == {"edge_01": ran.xcoms["sync"]["release_id"]}
    assert ran.xcoms["arrived"]["uri"] == ran.xcoms["again"]["Training"]["ModelArtifacts"]["S3ModelArtifacts"]
