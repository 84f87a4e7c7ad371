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
from hybrid_provider.training.result import TrainingDict
from hybrid_provider.training.sagemaker.images import image_uri
from tests.docs.pages import blocks_of
from tests.training_stage import Instance, environment

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
IMPORTS, *EXAMPLES = [
    block.code
    for block in blocks_of(Path("docs/training.md"))
    if block.language == "python" and block.no_run is None
]
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


OURS = set(inspect.signature(SageMakerTrainOperator).parameters)


def rows(heading):
    """The cells of the table under a heading."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line) for line in lines[1:]]


def names_in(cell):
    """What stands in backticks, up to a sign that is no part of a name."""
    return [re.match(r"\w+", quoted)[0] for quoted in re.findall(r"`([^`]+)`", cell)]


def test_all_arguments_of_the_amazon_operator_are_taken_and_told_of():
    from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator

    theirs = set(inspect.signature(SageMakerTrainingOperator).parameters) - {"kwargs"}
    told = {name for row in rows("Coming from the amazon provider") for name in names_in(row[0])}
    assert theirs <= told <= OURS
    assert {"aws_conn_id", "region_name", "verify", "botocore_config"} <= told


def test_what_the_sdk_s_arguments_became_is_there():
    table = rows("Coming from the SageMaker SDK")
    for before, now in table:
        if before.startswith("the class"):
            for framework in names_in(before):
                version = {"SKLearn": "1.4-2", "XGBoost": "1.7-1", "MXNet": "1.9.0"}.get(framework, "2.3.0")
                assert image_uri(framework.lower(), version, None, "us-east-1", "ml.m5.large")
        elif "train.output" in now:
            assert "artifact" in TrainingDict.__annotations__
        elif not now.startswith("none"):
            assert names_in(now)[0] in OURS, now
    assert len(table) == 13


def test_every_field_of_a_create_training_job_request_is_taken_as_config(emulator):
    from hybrid_provider.training.sagemaker.request import Place, create_request
    from hybrid_provider.training.spec import TrainingSpec

    model = emulator.client("sagemaker").meta.service_model.operation_model("CreateTrainingJob")
    for field in set(model.input_shape.members) - {"TrainingJobName", "Tags"}:
        given = {"of": "the user"}
        request = create_request(
            TrainingSpec(model_name="m", native={field: given}), "name", {}, Place("us-east-1")
        )
        assert request[field].items() >= given.items()
