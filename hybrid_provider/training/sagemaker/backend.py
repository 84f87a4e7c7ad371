"""SageMaker as a training backend: boto3 in, the words of every cloud out."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from hybrid_provider.artifacts.s3 import S3Location, describe, s3_errors_explained
from hybrid_provider.exceptions import ArtifactNotFound, ConfigurationError, TrainingFailed
from hybrid_provider.training.backend import FoundJob, JobRef
from hybrid_provider.training.sagemaker.errors import code_of, message_of, sagemaker_errors_explained
from hybrid_provider.training.sagemaker.faults import request_faults, too_costly
from hybrid_provider.training.sagemaker.logs import last_lines, new_lines
from hybrid_provider.training.sagemaker.request import Place, create_request, role_of, source_uri
from hybrid_provider.training.sagemaker.running import ended_jobs, running_jobs
from hybrid_provider.training.sagemaker.status import job_status
from hybrid_provider.training.source import SourceBundle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime, timedelta

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.aws import AwsAccess
    from hybrid_provider.training.backend import JobStatus, LogCursor, LogLine
    from hybrid_provider.training.spec import TrainingSpec

_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")
_SOME_ROLE = "arn:aws:iam::000000000000:role/looked-up-later"


class SageMakerBackend:
    """The training jobs of one AWS account in one region; see :class:`TrainingBackend` for the methods."""

    def __init__(self, access: AwsAccess) -> None:
        self._access = access
        self._region = str(access.session.region_name)
        self._clients: dict[str, Any] = {}
        # Reentrant: a kill stops the job from a signal handler, which may interrupt the making of a client.
        self._making_clients = threading.RLock()

    @property
    def settings(self) -> Mapping[str, Any]:
        """``service_config.sagemaker`` of the connection: ``role`` and ``output_path`` for all trainings."""
        return self._access.settings.get("sagemaker", {})

    def faults(self, spec: TrainingSpec, max_billable: timedelta | None = None) -> tuple[str, ...]:
        """What SageMaker would refuse."""
        role = role_of(spec)
        # A name is looked up at submit; here the rest of the request is checked.
        place = Place(self._region, _SOME_ROLE if role and _ROLE_NAME.fullmatch(role) else role)
        try:
            request = create_request(spec, "checked-later", {}, place)
        except ConfigurationError as error:
            return (str(error),)
        shape = self._client("sagemaker").meta.service_model.operation_model("CreateTrainingJob").input_shape
        return (*request_faults(shape, request), *too_costly(request, max_billable))

    def submit(self, spec: TrainingSpec, name: str, tags: Mapping[str, str]) -> JobRef:
        """Upload the source unless it is there, and CreateTrainingJob."""
        request = create_request(spec, name, tags, Place(self._region, self._role_arn(spec)))
        self._upload_source(spec)
        with sagemaker_errors_explained("CreateTrainingJob", f"training job {name}"):
            reply = self._client("sagemaker").create_training_job(**request)
        return JobRef(name, str(reply["TrainingJobArn"]))

    def find(self, name: str) -> FoundJob | None:
        """DescribeTrainingJob and ListTags."""
        description = self._describe(name)
        if description is None:
            return None
        ref = JobRef(name, str(description["TrainingJobArn"]))
        with sagemaker_errors_explained("ListTags", f"training job {name}"):
            pages = self._client("sagemaker").get_paginator("list_tags").paginate(ResourceArn=ref.id)
            tags = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        return FoundJob(ref, job_status(description), tags)

    def status(self, ref: JobRef) -> JobStatus:
        """A fresh DescribeTrainingJob."""
        return job_status(self._existing(ref))

    def running(self, names: Collection[str]) -> Mapping[str, str]:
        """ListTrainingJobs; see :class:`~hybrid_provider.training.polls.RunningJobs`."""
        return running_jobs(self._client("sagemaker"), names)

    def ended(self, names: Collection[str], since: datetime) -> Mapping[str, str]:
        """ListTrainingJobs of what changed; see :class:`~hybrid_provider.training.polls.RunningJobs`."""
        return ended_jobs(self._client("sagemaker"), names, since)

    def cancel(self, ref: JobRef) -> None:
        """StopTrainingJob."""
        from botocore.exceptions import ClientError

        with sagemaker_errors_explained("StopTrainingJob", f"training job {ref.name}"):
            try:
                self._client("sagemaker").stop_training_job(TrainingJobName=ref.name)
            except ClientError as error:
                # It has ended, is stopping, or was never there: in each case it is not running on.
                if code_of(error) not in {"ValidationException", "ResourceNotFound"}:
                    raise

    def logs(self, ref: JobRef, cursor: LogCursor) -> tuple[tuple[LogLine, ...], LogCursor]:
        """New CloudWatch lines."""
        return new_lines(self._client("logs"), ref.name, cursor)

    def last_lines(self, ref: JobRef, count: int) -> tuple[LogLine, ...]:
        """The newest CloudWatch lines."""
        return last_lines(self._client("logs"), ref.name, count)

    def artifact(self, ref: JobRef) -> Artifact:
        """The object, or the prefix of objects, that ModelArtifacts names."""
        description = self._existing(ref)
        uri = str((description.get("ModelArtifacts") or {}).get("S3ModelArtifacts") or "")
        if not uri:
            raise ArtifactNotFound(
                "SageMaker names no model artifact; the training script must write its model to SM_MODEL_DIR "
                "before it ends"
            )
        plain = description.get("OutputDataConfig", {}).get("CompressionType") == "NONE"
        return describe(self._access, f"{uri.rstrip('/')}/" if plain else uri)

    def metrics(self, ref: JobRef) -> Mapping[str, float]:
        """FinalMetricDataList."""
        found = self._existing(ref).get("FinalMetricDataList") or ()
        return {str(metric["MetricName"]): float(metric["Value"]) for metric in found}

    def _client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes at run time
        """One client a service: making one costs a second, and threads may share it, but not the session."""
        with self._making_clients:
            if service not in self._clients:
                self._clients[service] = self._access.client(service)
            return self._clients[service]

    def _describe(self, name: str) -> Mapping[str, Any] | None:
        from botocore.exceptions import ClientError

        with sagemaker_errors_explained("DescribeTrainingJob", f"training job {name}"):
            try:
                description: Mapping[str, Any] = self._client("sagemaker").describe_training_job(
                    TrainingJobName=name
                )
            except ClientError as error:
                # SageMaker has no own code for a job that is not there.
                if code_of(error) == "ValidationException" and "not found" in message_of(error).lower():
                    return None
                raise
        return description

    def _existing(self, ref: JobRef) -> Mapping[str, Any]:
        description = self._describe(ref.name)
        if description is None:
            raise TrainingFailed(
                f"training job {ref.name} is gone; was it deleted? Clear the task to train again"
            )
        return description

    def _role_arn(self, spec: TrainingSpec) -> str | None:
        role = role_of(spec)
        if role is None or role.startswith("arn:"):
            return role
        with sagemaker_errors_explained("GetRole", f"role {role}"):
            return str(self._client("iam").get_role(RoleName=role)["Role"]["Arn"])

    def _upload_source(self, spec: TrainingSpec) -> None:
        from botocore.exceptions import ClientError

        if not isinstance(spec.source, SourceBundle):
            return
        location = S3Location.parse(str(source_uri(spec)))
        place = {"Bucket": location.bucket, "Key": location.key}
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": spec.kms_key} if spec.kms_key else {}
        s3 = self._client("s3")
        with s3_errors_explained(self._access, location):
            try:
                s3.head_object(**place)
            except ClientError as error:
                # Without s3:ListBucket an object that is not there is forbidden.
                if code_of(error) not in {"404", "403", "NoSuchKey"}:
                    raise
                s3.put_object(**place, Body=spec.source.archive, **encryption)
