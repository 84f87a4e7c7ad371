"""What a person sees of an Airflow run's log."""

from __future__ import annotations

from playground.airflow_log import Says, TaskBegins, TaskFails, events, without_container_chatter

OURS = "airflow.task.operators.hybrid_provider.operators.train.SageMakerTrainOperator"


def line(text, logger=OURS, level="info"):
    return f"2026-11-23T22:00:00.000000Z [{level:<9}] {text:<30} [{logger}] loc=train.py:39\n"


def test_tasks_and_the_lines_of_this_provider_are_kept_in_order():
    log = [
        line("Filling up the DagBag", "airflow.dag_processing.dagbag.BundleDagBag"),
        line("[DAG TEST] starting task_id=train map_index=-1", "airflow.sdk.definitions.dag"),
        line("Pushing xcom", "task"),
        line("Submitted training job digits-g1"),
        line("the disk is nearly full", level="warning"),
    ]

    assert list(events(log)) == [
        TaskBegins("train"),
        Says("info", "Submitted training job digits-g1"),
        Says("warning", "the disk is nearly full"),
    ]


def test_a_line_with_a_word_in_brackets_is_not_taken_for_another_s():
    said = "edge_01: PROBING - HTTP 503: '[ONNXRuntimeError] : 1 : FAIL'"

    assert list(events([line(said)])) == [Says("info", said)]


def test_a_line_that_goes_on_below_belongs_to_who_began_it():
    log = [line("Rollout SUCCEEDED"), "host     state\n", line("Pushing xcom", "task"), "not ours\n"]

    assert list(events(log)) == [Says("info", "Rollout SUCCEEDED"), Says("info", "host     state")]


def test_what_was_logged_with_line_breaks_is_told_line_by_line_and_without_airflow_s_own_marks():
    log = [
        "2026-11-23T22:00:00.000000Z [info     ] Deploy SUCCEEDED in 7.9 s\n",
        "target   state\n",
        f"edge_01  SUCCEEDED [{OURS}] loc=_fleet.py:188\n",
        line("Pushing xcom", "task"),
    ]

    assert [event.text for event in events(log)] == [
        "Deploy SUCCEEDED in 7.9 s",
        "target   state",
        "edge_01  SUCCEEDED",
    ]


def test_a_failure_is_told_by_the_last_line_of_its_traceback():
    log = [
        line("Task failed with exception", "task", "error"),
        "Traceback (most recent call last):\n",
        '  File "task_runner.py", line 1579, in _run\n',
        "airflow.sdk.exceptions.AirflowFailException: aws connection 'x' does not exist\n",
        line("::group::Post Execute", "task"),
    ]

    assert list(events(log)) == [
        TaskFails("airflow.sdk.exceptions.AirflowFailException: aws connection 'x' does not exist")
    ]


def test_what_the_container_says_of_itself_is_left_out_and_the_script_is_not():
    told = [
        Says("info", "Submitted training job digits-g1"),
        Says("info", "Requirement already satisfied: skl2onnx"),
        Says("info", "SM_HP_EPOCHS=60"),
        Says("info", "Invoking script with the following command:"),
        Says("info", ""),
        Says("info", "epoch 10: loss=0.1"),
        Says(
            "info", "2026-11-23 22:02:06,245 sagemaker-training-toolkit INFO     Reporting training SUCCESS"
        ),
        TaskBegins("sync"),
    ]

    assert list(without_container_chatter(told)) == [told[0], told[5], told[7]]
