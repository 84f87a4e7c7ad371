"""A DAG that is scheduled on arrivals, in real Airflow: each artifact starts one run, also if the triggerer is restarted."""

from __future__ import annotations

from playground.environment import BUCKET, MODEL

DAG = "hybrid_on_artifact"


def test_each_artifact_that_arrives_starts_one_run_also_across_a_restart_of_the_triggerer(
    place, run_dag, airflow, api, until
):
    trained = run_dag("hybrid_retrain", {"hyperparameters": {"epochs": 23}, "policy": {"bake_time": 0}})
    assert trained.state == "success", trained.log
    until(lambda: api.get(f"/dags/{DAG}").status_code == 200, "the DAG")
    api.patch(f"/dags/{DAG}", json={"is_paused": False}).raise_for_status()

    def arrive(name):
        """The trained model, laid down by somebody else."""
        source = trained.xcoms["train"]["artifact"]["uri"].removeprefix("s3://")
        key = f"{MODEL}/incoming/{name}/model.tar.gz"
        place.emulator.client("s3").copy_object(Bucket=BUCKET, Key=key, CopySource=source)
        return f"s3://{BUCKET}/{key}"

    def events():
        answer = api.get("/assets/events", params={"limit": 100})
        if answer.status_code == 500:
            # Airflow 3.3.2 cannot show an event while a run that it created is queued and has no start.
            return []
        told = answer.raise_for_status().json()["asset_events"]
        return [event for event in told if event["extra"].get("payload")]

    def fired():
        return sorted(event["extra"]["payload"]["artifact"]["uri"] for event in events())

    def remembered():
        """How many artifacts each watch has written down as fired."""
        assets = {event["asset_id"] for event in events()}
        states = [api.get(f"/assets/{asset}/state-store").raise_for_status().json() for asset in assets]
        return [len(entry["value"]) for state in states for entry in state["asset_state_store"]]

    def states():
        runs = api.get(f"/dags/{DAG}/dagRuns").raise_for_status().json()["dag_runs"]
        return [(run["run_type"], run["state"]) for run in runs]

    first = arrive("first")
    until(lambda: fired() == [first], "the first artifact's event")
    until(lambda: states() == [("asset_triggered", "success")], "the first artifact's run")
    # The watch writes it down some seconds after the event, by when a fast machine has run all.
    until(lambda: remembered() == [1], "the first artifact in the asset's state")

    airflow.restart("triggerer")
    second = arrive("second")
    until(lambda: second in fired(), "the second artifact's event")
    # The watch has looked twice since its restart, and the first artifact was there each time.
    assert fired() == [first, second]
    until(lambda: states() == [("asset_triggered", "success")] * 2, "the second artifact's run")
