"""Trains a model in AWS SageMaker, exactly once."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator, conf

from hybrid_provider._explained import explained
from hybrid_provider._installation import installation_id
from hybrid_provider._task_state import TaskState
from hybrid_provider.hooks.aws import aws_access
from hybrid_provider.links.training import TrainingJobLink, TrainingLogLink, publish_links
from hybrid_provider.names import MAX_NAME_LENGTH
from hybrid_provider.operators._events import announce
from hybrid_provider.operators._training_events import count_billed, lineage, mask_secrets
from hybrid_provider.sites import why_it_stays
from hybrid_provider.training.arguments import Faults, choice, read_spec
from hybrid_provider.training.lifecycle import Identity
from hybrid_provider.training.result import OnStopped
from hybrid_provider.training.run import TrainingRun, Try
from hybrid_provider.training.sagemaker.backend import SageMakerBackend
from hybrid_provider.triggers.training import CURSOR_KEY, TrainingTrigger, TrainingWait

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import BaseOperatorLink, Context

    from hybrid_provider.operators._events import Lineage
    from hybrid_provider.training.lifecycle import Started
    from hybrid_provider.training.result import TrainingDict
    from hybrid_provider.training.spec import TrainingSpec

_SPEC_ARGUMENTS = (
    "config", "entry_point", "source_dir", "image_uri", "framework", "framework_version", "py_version",
    "hyperparameters", "inputs", "output_path", "role", "instance_type", "instance_count", "volume_size_gb",
    "max_runtime", "spot", "max_wait", "checkpoint_uri", "compression", "metric_definitions", "environment",
    "tags", "subnets", "security_group_ids", "kms_key", "keep_alive",
)  # fmt: skip


class SageMakerTrainOperator(BaseOperator):
    """Train a model and hand on its artifact, proved to be there.

    However often the task crashes, is retried or raced, one training runs and is paid; a task that a user
    kills stops its job. Give the friendly arguments, or the amazon provider's ``config``, or both: then
    ``config`` is laid over what the arguments say.

    What describes the job is templated: all from ``config`` to ``keep_alive``, and ``aws_conn_id`` and
    ``region_name``.

    Args:
        model_name: The model; letters, digits, ``.``, ``_`` and ``-``. None takes the task's id.
        config: A CreateTrainingJob request, as the amazon provider takes it; ``TrainingJobName`` is not used.
        entry_point: The training script: a path in ``source_dir``, or without that a file beside the DAG.
        source_dir: Folder of the script, relative to the DAG file, or ``s3://…/sourcedir.tar.gz``.
        image_uri: The training image; else ``framework`` and ``framework_version`` choose AWS's own.
        framework: ``tensorflow``, ``pytorch``, ``sklearn``, ``xgboost`` or ``mxnet``.
        framework_version: As AWS tags the image: ``2.3.0``, ``1.4-2``.
        py_version: As AWS tags the image; None takes the one that belongs to the version.
        hyperparameters: Passed to the script as arguments: name to a text, number, bool, list or dict.
        inputs: Channel to ``s3://`` URI, or to SageMaker's own description of a channel.
        output_path: Where artifacts go; None takes the connection's ``service_config.sagemaker.output_path``.
        role: Execution role's ARN or name; None takes the connection's ``service_config.sagemaker.role``.
        instance_type: For example ``ml.m5.large``.
        instance_count: How many instances; 1, as in SageMaker's SDK.
        volume_size_gb: Disk of each instance in GB; 30 where None, as in SageMaker's SDK.
        max_runtime: SageMaker stops the job after it; a day where None, as in its SDK.
        spot: Use spare capacity, at a discount that AWS sets.
        max_wait: With ``spot``, the longest time from submit to end; ``max_runtime`` where None.
        checkpoint_uri: Kept in step with ``/opt/ml/checkpoints``; with ``spot`` and None, a prefix under
            ``output_path`` that all tries of this task share, so that a retry resumes; a training after a
            success begins with an empty one.
        compression: ``gzip`` for one ``model.tar.gz``, ``none`` for plain objects.
        metric_definitions: ``[{"Name": …, "Regex": …}]``: the number that the regular expression's group
            finds in the log becomes a metric of the job, and its last value one of the XCom's ``metrics``.
        environment: Environment variables of the container.
        tags: Of the job, as ``{key: value}``; those that begin with ``aws:`` are AWS's own.
        subnets: With ``security_group_ids``, where the instances stand.
        security_group_ids: See ``subnets``.
        kms_key: ARN or id of the key that encrypts artifact and volumes; None leaves it to AWS.
        keep_alive: How long instances stay warm, and billed, for the next job.
        max_billable: The most instance time (``max_runtime`` and ``keep_alive`` times instances) that may be
            asked for; more is refused before anything is started.
        on_stopped: ``fail``, or ``accept`` the artifact that a stopped job left.
        wait_for_completion: False returns as soon as the job is submitted, without an artifact.
        deferrable: Wait in the triggerer. Without effect on a site's queue: the triggerer may not reach what
            the site's worker reaches.
        check_interval: The longest time between two looks at the job, in seconds; 30, as in the amazon
            provider.
        print_log: Show the job's log.
        max_ingestion_time: Seconds after which the job is stopped, as ``execution_timeout`` does.
        max_attempts: Of the amazon provider, without effect: a wait has no limit but the times above.
        check_if_job_exists: Likewise: no job is ever started twice.
        action_if_job_exists: Likewise.
        aws_conn_id: As in the amazon provider.
        region_name: As in the amazon provider.
        verify: As in the amazon provider.
        botocore_config: As in the amazon provider.

    Returns:
        A :class:`~hybrid_provider.training.result.TrainingDict`, which the sensor, the gate and the sync
        operator take as it is: ``artifact=train.output``.

    Raises:
        ConfigurationError: All that cannot be right in the arguments, before anything is started.
        TrainingRefused: SageMaker refuses the request.
        TrainingFailed: The script, the image or the inputs failed; with the last lines of the job's log.
        TrainingStopped: A person, ``max_runtime`` or a timeout ended the job.
        JobConflict: A job with other arguments runs under the name.
        ArtifactNotFound: The job ended well and left nothing.
        CloudUnavailable: Throttling, network, AWS's own fault. Tried again, as are its kind
            :class:`~hybrid_provider.exceptions.CapacityUnavailable` and
            :class:`~hybrid_provider.exceptions.TrainingInterrupted`; the others fail the task at once.
    """

    template_fields: Sequence[str] = (*_SPEC_ARGUMENTS, "aws_conn_id", "region_name")
    operator_extra_links: Sequence[BaseOperatorLink] = (TrainingJobLink(), TrainingLogLink())
    template_fields_renderers = {"config": "json", "hyperparameters": "json", "inputs": "json"}  # noqa: RUF012 - BaseOperator declares it so

    def __init__(
        self,
        *,
        model_name: str | None = None,
        config: dict[str, Any] | str | None = None,
        entry_point: str | None = None,
        source_dir: str | None = None,
        image_uri: str | None = None,
        framework: str | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        hyperparameters: dict[str, Any] | str | None = None,
        inputs: dict[str, Any] | str | None = None,
        output_path: str | None = None,
        role: str | None = None,
        instance_type: str | None = None,
        instance_count: int | str = 1,
        volume_size_gb: int | str | None = None,
        max_runtime: timedelta | None = None,
        spot: bool | str = False,
        max_wait: timedelta | None = None,
        checkpoint_uri: str | None = None,
        compression: str = "gzip",
        metric_definitions: list[dict[str, str]] | str | None = None,
        environment: dict[str, str] | str | None = None,
        tags: dict[str, str] | str | None = None,
        subnets: list[str] | str | None = None,
        security_group_ids: list[str] | str | None = None,
        kms_key: str | None = None,
        keep_alive: timedelta | None = None,
        max_billable: timedelta | None = None,
        on_stopped: str = OnStopped.FAIL,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        check_interval: int = 30,
        print_log: bool = True,
        max_ingestion_time: int | None = None,
        max_attempts: int | None = None,  # noqa: ARG002 - taken so that moving over is a rename
        check_if_job_exists: bool = True,  # noqa: ARG002 - likewise
        action_if_job_exists: str = "timestamp",  # noqa: ARG002 - likewise
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name or self.task_id.rpartition(".")[2][:MAX_NAME_LENGTH]
        self.config = config
        self.entry_point = entry_point
        self.source_dir = source_dir
        self.image_uri = image_uri
        self.framework = framework
        self.framework_version = framework_version
        self.py_version = py_version
        self.hyperparameters = hyperparameters
        self.inputs = inputs
        self.output_path = output_path
        self.role = role
        self.instance_type = instance_type
        self.instance_count = instance_count
        self.volume_size_gb = volume_size_gb
        self.max_runtime = max_runtime
        self.spot = spot
        self.max_wait = max_wait
        self.checkpoint_uri = checkpoint_uri
        self.compression = compression
        self.metric_definitions = metric_definitions
        self.environment = environment
        self.tags = tags
        self.subnets = subnets
        self.security_group_ids = security_group_ids
        self.kms_key = kms_key
        self.keep_alive = keep_alive
        self.max_billable = max_billable
        self.on_stopped = on_stopped
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.check_interval = check_interval
        self.print_log = print_log
        self.max_ingestion_time = max_ingestion_time
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self._killed = threading.Event()
        self._run: TrainingRun | None = None
        self._result: TrainingDict | None = None

    @explained
    def execute(self, context: Context) -> TrainingDict:
        """Start the job, or adopt the one that a try before this one started, and see it through."""
        if self.deferrable and (reason := why_it_stays(self)):
            self.log.info("%s", reason)
        self._mask_secrets()
        backend = self._backend()
        run = self._begin(context, backend)
        spec = self._spec(context, backend, run)
        with run.never_left_billing():
            return self._start(context, run, spec, self._deadline())

    @explained
    def resume(self, context: Context, event: Mapping[str, Any]) -> TrainingDict:
        """Go on where the trigger ended, with a fresh look."""
        self._mask_secrets()
        run = self._begin(context, self._backend())
        wait = TrainingWait.from_dict(event)
        with run.never_left_billing():
            started = run.resume(wait.job, leaving=wait.leaving)
            wait.raise_error()
            return self._see_through(context, run, started, wait)

    def on_kill(self) -> None:
        """Stop the job; runs inside the handler of SIGTERM, seconds before SIGKILL."""
        self._killed.set()
        if self._run is not None:
            self._run.stop()

    def get_openlineage_facets_on_start(self) -> Lineage:
        """The channels."""
        return lineage(self.inputs, self.config, None)

    def get_openlineage_facets_on_complete(self, _task_instance: object) -> Lineage:
        """The channels and the artifact."""
        return lineage(self.inputs, self.config, self._result)

    def get_openlineage_facets_on_failure(self, _task_instance: object) -> Lineage:
        """The channels."""
        return lineage(self.inputs, self.config, None)

    def _start(
        self, context: Context, run: TrainingRun, spec: TrainingSpec, deadline: datetime | None
    ) -> TrainingDict:
        started = run.start(spec)
        publish_links(context, started.ref)
        if not self.wait_for_completion and not started.leaving:
            return run.leave(started)
        wait = TrainingWait(job=started.ref, deadline=deadline, leaving=started.leaving)
        return self._see_through(context, run, started, wait)

    def _see_through(
        self, context: Context, run: TrainingRun, started: Started, wait: TrainingWait
    ) -> TrainingDict:
        watch = run.watch(started.ref, cursor=wait.cursor, deadline=wait.deadline, timed_out=wait.timed_out)
        watched = watch.look() if self._defers() else run.wait(watch)
        if watched is None:
            self._hand_to_trigger(context, replace(wait, cursor=watch.cursor, timed_out=watch.timed_out))
        # Whatever it ends in, it is paid.
        count_billed(context, self.model_name, watched.status)
        if run.starts_again(started, watched):
            spec = self._spec(context, self._backend(), run)
            return self._start(context, run, spec, wait.deadline)
        self._result = run.deliver(started, watched)
        announce(context, self, self.model_name, self._result)
        return self._result

    def _defers(self) -> bool:
        return self.deferrable and why_it_stays(self) is None

    def _hand_to_trigger(self, context: Context, wait: TrainingWait) -> NoReturn:
        # The trigger reads it from there, the first time and whenever it is started again.
        context["ti"].xcom_push(key=CURSOR_KEY, value={"job": wait.job.name, "cursor": wait.cursor})
        self.defer(
            trigger=TrainingTrigger(
                wait=wait.to_dict(),
                check_interval=self.check_interval,
                print_log=self.print_log,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name,
                verify=self.verify,
                botocore_config=self.botocore_config,
                secrets=self._mask_secrets(),
            ),
            method_name="resume",
        )

    def _mask_secrets(self) -> list[str]:
        return mask_secrets(self.environment, self.hyperparameters, self.config)

    def _backend(self) -> SageMakerBackend:
        return SageMakerBackend(
            aws_access(self.aws_conn_id, self.region_name, self.verify, self.botocore_config)
        )

    def _begin(self, context: Context, backend: SageMakerBackend) -> TrainingRun:
        ti = context["ti"]
        self._run = TrainingRun(
            backend,
            TaskState(context),
            Try(
                identity=Identity(
                    installation=installation_id(),
                    dag_id=ti.dag_id,
                    run_id=ti.run_id,
                    task_id=ti.task_id,
                    map_index=-1 if ti.map_index is None else ti.map_index,
                ),
                max_tries=ti.max_tries,
                is_last=ti.try_number > ti.max_tries,
                on_stopped=choice("on_stopped", self.on_stopped, OnStopped),
                check_interval=timedelta(seconds=self.check_interval),
                print_log=self.print_log,
            ),
            report=lambda text: self.log.info("%s", text),
            pause=lambda pause: self._killed.wait(pause.total_seconds()),
        )
        return self._run

    def _spec(self, context: Context, backend: SageMakerBackend, run: TrainingRun) -> TrainingSpec:
        """The arguments, complete and without fault."""
        given = {name: getattr(self, name) for name in (*_SPEC_ARGUMENTS, "model_name")}
        arguments = {
            "role": backend.settings.get("role"),
            "output_path": backend.settings.get("output_path"),
            **{name: value for name, value in given.items() if value not in (None, "")},
        }
        faults = Faults()
        spec = read_spec(arguments, Path(context["dag"].fileloc).parent, faults)
        faults.add(*backend.faults(spec, self.max_billable))
        faults.raise_if_any(f"training of model {self.model_name!r}", run.left_running)
        return spec

    def _deadline(self) -> datetime | None:
        """When this wait ends; while it waits by itself, Airflow keeps execution_timeout."""
        limits = [timedelta(seconds=self.max_ingestion_time)] if self.max_ingestion_time else []
        if self._defers() and self.execution_timeout is not None:
            limits.append(self.execution_timeout)
        return datetime.now(UTC) + min(limits) if limits else None
