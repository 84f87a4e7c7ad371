"""The training page: every example trains in the emulator, and no argument is missing from it."""

from __future__ import annotations

import inspect
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from hybrid_provider.operators.train import SageMakerTrainOperator
from tests.training_stage import Instance, environment

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
IMPORTS, *EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SCRIPT = """
import os, pathlib
print("accuracy=0.75;")
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text("a model")
"""
BUCKET = "your-bucket"


@dataclass
class BesideTheScript(Instance):
    """A task of a DAG file that lies in a folder of the test's."""

    folder: Path = Path()

    def context(self) -> dict[str, Any]:
        return super().context() | {"dag": SimpleNamespace(fileloc=str(self.folder / "dag.py"))}


@pytest.fixture(scope="module")
def cloud(emulator):
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="digits/data/rows.csv", Body=b"1,2\n")
    s3.put_object(Bucket=BUCKET, Key="digits/source/sourcedir.tar.gz", Body=packed("train.py", SCRIPT))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(emulator).items():
            patch.setenv(name, value.replace("s3://training/jobs", f"s3://{BUCKET}/digits/jobs"))
        yield emulator


@pytest.fixture
def task(tmp_path):
    (tmp_path / "digits").mkdir()
    for script in (tmp_path / "train.py", tmp_path / "digits" / "train.py"):
        script.write_text(SCRIPT)
    return BesideTheScript(run_id=f"manual__{uuid4().hex[:8]}", folder=tmp_path)


def packed(name, text):
    """One file as a tar.gz."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        tar.addfile(member, io.BytesIO(text.encode()))
    return archive.getvalue()


def built(example):
    """The operator that an example makes."""
    names: dict[str, Any] = {}
    exec(IMPORTS + example, names)  # noqa: S102 - the page's own examples
    return names["train"]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_an_example_trains(cloud, task, example):
    operator = built(example)
    # What a reader waits half a minute for.
    operator.check_interval = 0.1

    result = task.attempt(operator)

    if operator.wait_for_completion:
        assert result["status"] == "Completed"
        assert result["artifact"]["size_bytes"] > 0
    else:
        assert result["artifact"] is None
    described = cloud.client("sagemaker").describe_training_job(TrainingJobName=result["job"])
    assert described["TrainingJobArn"] == result["arn"]


@pytest.mark.parametrize(
    "argument", [name for name in inspect.signature(SageMakerTrainOperator).parameters if name != "kwargs"]
)
def test_every_argument_is_in_an_example(argument):
    assert any(re.search(rf"^    {argument}=", example, flags=re.MULTILINE) for example in EXAMPLES)
