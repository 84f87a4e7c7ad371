"""The emulated training job's parts that need no server: names in a channel, log batches, failures, metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hybrid_provider.emulator.sagemaker.describe import billable_seconds
from hybrid_provider.emulator.sagemaker.failure import exception_in, failure_reason
from hybrid_provider.emulator.sagemaker.job import Secondary, Status, TrainingJob, Transition
from hybrid_provider.emulator.sagemaker.logs import batches
from hybrid_provider.emulator.sagemaker.metrics import MetricReader
from hybrid_provider.emulator.sagemaker.storage import channel_names


@pytest.mark.parametrize(
    ("prefix", "keys", "names"),
    [
        ("data/", ["data/", "data/a", "data/b/c"], {"data/a": "a", "data/b/c": "b/c"}),
        ("data", ["data/a", "data/b/c"], {"data/a": "a", "data/b/c": "b/c"}),
        ("data", ["data/a", "data-old/b"], {"data/a": "a"}),
        ("data/part-", ["data/part-1", "data/part-2"], {"data/part-1": "part-1", "data/part-2": "part-2"}),
        ("data/a.csv", ["data/a.csv"], {"data/a.csv": "a.csv"}),
        ("a.csv", ["a.csv"], {"a.csv": "a.csv"}),
        ("", ["a", "b/c"], {"a": "a", "b/c": "b/c"}),
    ],
    ids=[
        "a folder",
        "a folder without its slash",
        "a neighbour",
        "beginnings",
        "a file",
        "a file at the root",
        "all",
    ],
)
def test_a_channels_files_are_named_below_its_prefix(
    prefix: str, keys: list[str], names: dict[str, str]
) -> None:
    assert channel_names(prefix, keys) == names


def event(message: str) -> dict[str, object]:
    return {"timestamp": 0, "message": message}


def test_log_lines_are_sent_in_batches_that_cloudwatch_takes() -> None:
    many = [event("short")] * 25_000
    assert [len(batch) for batch in batches(many)] == [10_000, 10_000, 5_000]
    large = [event("x" * 200_000)] * 12
    assert [len(batch) for batch in batches(large)] == [5, 5, 2]
    assert batches([]) == []


def test_a_log_batch_counts_bytes_not_characters() -> None:
    assert [len(batch) for batch in batches([event("ü" * 200_000)] * 3)] == [2, 1]


TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "train.py", line 1, in <module>',
    "    raise ValueError('upside down')",
    "ValueError: upside down",
    "2026-11-23 22:13:00 sagemaker-training-toolkit ERROR    Reporting training FAILURE",
]


def test_the_exception_is_the_line_after_the_traceback() -> None:
    assert exception_in(["start", *TRACEBACK]) == "ValueError: upside down"
    assert exception_in([*TRACEBACK, TRACEBACK[0], "  File", "KeyError: 'b'"]) == "KeyError: 'b'"
    assert exception_in(["all is well"]) == exception_in([]) == ""


def test_the_toolkits_empty_message_is_filled_in() -> None:
    said = 'ExecuteUserScriptError:\nExitCode 1\nErrorMessage ""\nCommand "python train.py"'
    assert failure_reason(said, 1, TRACEBACK) == (
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: upside down"\n'
        'Command "python train.py", exit code: 1'
    )


def test_a_failure_without_a_word_is_a_failure_all_the_same() -> None:
    assert failure_reason("", 137, []) == "AlgorithmError: the container left no reason, exit code: 137"


def test_a_failure_reason_fits_the_services_1024_characters_and_keeps_the_exit_code() -> None:
    reason = failure_reason("x" * 5000, 3, [])
    assert len(reason) == 1024
    assert reason.endswith(", exit code: 3")


def test_a_metric_is_the_last_number_that_its_pattern_finds() -> None:
    reader = MetricReader(
        [
            {"Name": "loss", "Regex": "loss=(.*?);"},
            {"Name": "whole", "Regex": "[0-9]+"},
            {"Name": "absent", "Regex": "never"},
        ]
    )
    for line in ("loss=0.5;", "loss=nothing;", "loss=0.25; step 12"):
        reader.read(line)
    assert [(metric.name, metric.value) for metric in reader.found()] == [("loss", 0.25), ("whole", 0.0)]


def test_the_time_between_the_loss_of_spot_instances_and_the_next_ones_is_not_billed() -> None:
    began = datetime(2026, 11, 24, tzinfo=UTC)
    phases = ["Starting", "Downloading", "Training", "Interrupted", "Starting", "Training", "Completed"]
    moments = [began + timedelta(seconds=seconds) for seconds in (0, 10, 20, 110, 120, 1000, 1100)]
    job = TrainingJob(
        request={"TrainingJobName": "spot", "EnableManagedSpotTraining": True},
        arn="arn", created=began, modified=began, started=moments[1], ended=moments[-1], status=Status.COMPLETED,
        transitions=[
            Transition(secondary=Secondary(phase), message="", started=at, ended=until)
            for phase, at, until in zip(phases, moments, [*moments[1:], moments[-1]], strict=True)
        ],
    )  # fmt: skip

    assert job.training_time == timedelta(seconds=100 + 100)
    assert billable_seconds(job) == 60
