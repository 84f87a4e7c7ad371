"""The code blocks of docs/artifacts.md, run as they stand, one after the other in one folder."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.store import ReleaseStore
from tests.integration.airflow_task import aws_connection, task_context
from tests.servers import require_program

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/artifacts.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture
def put_model(bucket: Bucket):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("config.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    bucket.put("docs/model.tar.gz", archive.getvalue())


@pytest.mark.usefixtures("put_model")
def test_every_block_works_in_its_order(bucket: Bucket, tmp_path, monkeypatch):
    require_program("openssl", "openssl")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(bucket))
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
        "AWS_ENDPOINT_URL_S3": bucket.endpoint,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AIRFLOW__HYBRID__STORE_ROOT": str(tmp_path / "store"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    monkeypatch.chdir(tmp_path)
    ran = 0
    for language, code in BLOCKS:
        if language == "sh":
            done = subprocess.run(
                ["sh", "-ec", code], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, code + done.stderr
        elif language == "python":
            names: dict[str, object] = {}
            exec(code, names)  # noqa: S102 - the page's own text
            if "sync" in names:
                names["sync"].store_root = str(tmp_path / "store")
                names["sync"].execute(task_context())
        ran += language in {"sh", "python"}

    assert ran == 8
    store = ReleaseStore(tmp_path / "store")
    assert len(store.releases("digits")) == 3
    assert all(store.verify(release) == () for release in store.releases("digits"))


def test_every_rule_and_format_is_explained():
    from dataclasses import fields

    from hybrid_provider.artifacts.formats import Format
    from hybrid_provider.artifacts.policy import ArtifactPolicy

    assert {
        name
        for name in (*Format, *(field.name for field in fields(ArtifactPolicy)))
        if f"`{name}`" not in TEXT
    } == set()
