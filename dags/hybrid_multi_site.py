"""Train once, put the model live on one site, and after a bake on all the others side by side.

    preflight ─► train ─┬─► munich (pilot):  sync ─► deploy ─► bake ─┐
    pilot ready? cloud  ├─► lyon:            sync ──────────────────►go ─► deploy
                        └─► porto:           sync ──────────────────►go ─► deploy

Each site's tasks run on the site's own worker, next to its store and its hosts; the worker asks for them over
HTTP, so nothing needs a way in to the site (docs/where-tasks-run.md). Every site brings the model in at once,
which changes nothing there. If the pilot fails, no other site is touched; so the pilot is
asked before the training is paid for whether it is ready. Among the others, a failing site stops none, or all
that have not begun: the Param ``on_site_failure`` says which.

The sites are a constant, because a task's queue is: a mapped task cannot have one of its own.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.sdk import DAG, CronTriggerTimetable, Param, TaskGroup, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.sites import on_site

MODEL = "digits"

# The queue of each site's worker, and the ssh connections of the site's hosts. The first site is the pilot.
SITES = {
    "munich": ["edge_01"],
    "lyon": ["edge_02"],
    "porto": ["edge_03"],
}
PILOT, *OTHERS = SITES

with DAG(
    "hybrid_multi_site",
    description="Train in SageMaker, put the model live on a pilot site, then on all others.",
    # Unpausing pays for nothing; a plain "@weekly" would train at once in the first 16 hours of its week.
    schedule=CronTriggerTimetable("@weekly", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["hybrid", MODEL],
    doc_md=__doc__,
    params={
        "data": Param(
            "s3://hybrid-models/digits/data/small/",
            type="string",
            pattern="^s3://",
            title="Training data",
        ),
        "hyperparameters": Param({"epochs": 60}, type="object", title="Hyperparameters"),
        "policy": Param(
            {"waves": [1, "25%", "100%"], "bake_time": 60},
            type="object",
            title="Rollout policy",
            description="Of each site's own rollout, over its hosts.",
        ),
        "bake_minutes": Param(
            30,
            type="integer",
            minimum=0,
            title="Bake",
            description="For how many minutes the pilot site must serve before the others follow.",
        ),
        "on_site_failure": Param(
            "continue",
            enum=["continue", "stop"],
            title="When a site fails",
            description="continue: the others go side by side, each for itself. "
            "stop: they go one after another, and none begins after one has failed.",
        ),
    },
) as dag:
    preflight = FleetPreflightOperator(
        task_id="preflight",
        model_name=MODEL,
        targets=SITES[PILOT],
        policy="{{ params.policy }}",
        **on_site(PILOT),
    )
    train = SageMakerTrainOperator(
        task_id="train",
        model_name=MODEL,
        source_dir=str(Path(__file__).parent / "digits"),
        entry_point="train.py",
        framework="sklearn",
        framework_version="1.4-2",
        py_version="py3",
        instance_type="ml.m5.large",
        inputs={"train": "{{ params.data }}"},
        hyperparameters="{{ params.hyperparameters }}",
        max_runtime=timedelta(hours=1),
        check_interval=10,
    )
    preflight >> train
    # It waits for a time and needs nothing of the site: the triggerer keeps it, no worker does.
    bake = WaitSensor(task_id="bake", time_to_wait="{{ params.bake_minutes }}", deferrable=True)

    @task.sensor(poke_interval=10, mode="reschedule")
    def go(before: list[str]) -> bool:
        """Whether this site's turn has come; skipped if a site before it failed and the policy is to stop."""
        context = get_current_context()
        if context["params"]["on_site_failure"] == "continue":
            return True
        ti = context["ti"]
        deploys = [f"{site}.deploy" for site in before]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=deploys)
        ended = states.get(ti.run_id, {})
        for deploy in deploys:
            if ended.get(deploy) in {"failed", "upstream_failed", "skipped"}:
                raise AirflowSkipException(f"{deploy} is {ended[deploy]}, and on_site_failure is 'stop'")
        return all(ended.get(deploy) == "success" for deploy in deploys)

    for site, hosts in SITES.items():
        with TaskGroup(site):
            sync = ModelArtifactSyncOperator(
                task_id="sync", model_name=MODEL, artifact=train.output, **on_site(site)
            )
            deploy = OnPremDeployOperator(
                task_id="deploy",
                model_name=MODEL,
                release=sync.output,
                targets=hosts,
                policy="{{ params.policy }}",
                **on_site(site),
            )
            if site == PILOT:
                deploy >> bake
            else:
                bake >> go(OTHERS[: OTHERS.index(site)]) >> deploy
