"""Two hundred lives of a task, each crashing where its seed says, judged by the emulator's ledger.

The emulator's training service runs in this process, and boto3 calls it without a socket: so a life takes a part of a
second. Its S3, logs and IAM are moto's, in this process as well.
"""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws
from moto.core.models import botocore_stubber

from hybrid_provider.emulator.sagemaker.errors import ServiceError
from hybrid_provider.emulator.sagemaker.life import World
from hybrid_provider.emulator.sagemaker.server import Api
from hybrid_provider.emulator.sagemaker.service import TrainingService
from hybrid_provider.exceptions import HybridError, TrainingFailed
from hybrid_provider.training.lifecycle import STATE_KEY, Identity
from hybrid_provider.training.sagemaker.backend import SageMakerBackend
from hybrid_provider.training.source import SourceBundle
from hybrid_provider.training.spec import TrainingSpec
from tests.botocore_models import read_once
from tests.cloud import Store
from tests.training_stage import BUCKET, IMAGE, Puppets
from tests.training_task import Task

SEEDS = range(200)
ACCOUNT = "123456789012"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip
CALLS = (
    "GetRole", "HeadObject source", "PutObject source", "CreateTrainingJob", "DescribeTrainingJob", "ListTags",
    "DescribeLogStreams", "GetLogEvents", "HeadObject artifact", "StopTrainingJob", "store get", "store set",
)  # fmt: skip
BOUNDARIES = [f"{side} {call}" for call in CALLS for side in ("before", "after")]
# What a life seldom does crashes more often, so that each boundary has its share.
SELDOM = {"StopTrainingJob", "HeadObject artifact", "GetLogEvents"}


class Crash(BaseException):
    """The process is gone."""


class Chaos:
    """Crashes before or after calls; a life has a few crashes and no more.

    Each moment has a chance of its own: how often a log is read is the clock's choice and must not change the rest.
    """

    def __init__(self, seed):
        self._seed = seed
        self.left = random.Random(seed).randint(2, 7)
        self._passed = Counter()
        self.hits = Counter()

    def around(self, call, act):
        """``act``, or the end of the process before or after it."""
        self._maybe(f"before {call}", call)
        answer = act()
        self._maybe(f"after {call}", call)
        return answer

    def _maybe(self, where, call):
        self._passed[where] += 1
        chance = random.Random(f"{self._seed} {where} {self._passed[where]}").random()
        if self.left and chance < (0.5 if call in SELDOM else 0.07):
            self.left -= 1
            self.hits[where] += 1
            raise Crash(where)


class Raw(io.BytesIO):
    """A reply's body, as botocore reads it."""

    def stream(self, **_):
        yield self.read()


class EmulatedAccount:
    """The emulator's training service, and clients of it and of moto whose calls pass a life's chaos."""

    def __init__(self, folder):
        self.settings = {}
        self.session = boto3.Session(
            KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
        )
        self.chaos = None
        self.puppets = Puppets()
        own = {name: self.session.client(name) for name in ("s3", "logs", "iam")}
        self._s3 = own["s3"]
        self._s3.create_bucket(Bucket=BUCKET)
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        own["iam"].create_role(RoleName="train", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        world = World(
            account=ACCOUNT, folder=folder, aws=KEYS, **own, runner_for=self.puppets.runner_for,
            stop_grace=timedelta(seconds=60),
        )  # fmt: skip
        self.service = TrainingService(world, instance_quota=10_000)
        self._api = Api(self.service, access_key=KEYS["AWS_ACCESS_KEY_ID"], region="us-east-1")
        self._clients = {name: self._risky(self.session.client(name)) for name in ("sagemaker", *own)}
        events = self._clients["sagemaker"].meta.events
        # moto has a SageMaker as well; every handler is called, whoever answers.
        events.unregister("before-send", botocore_stubber)
        events.register("before-send", self._answer)

    def client(self, service):
        return self._clients[service]

    def has_artifact(self, job):
        key = f"jobs/{job}/output/model.tar.gz"
        return "Contents" in self._s3.list_objects_v2(Bucket=BUCKET, Prefix=key)

    def _answer(self, request, **_):
        headers = {name: _text(request.headers[name]) for name in ("X-Amz-Target", "Authorization")}
        try:
            status = 200
            reply = self._api.answer(headers["X-Amz-Target"], headers["Authorization"], request.body)
        except ServiceError as error:
            status, reply = error.http_status, {"__type": error.code, "message": str(error)}
        return AWSResponse(request.url, status, {}, Raw(json.dumps(reply).encode()))

    def _risky(self, client):
        call_api = client._make_api_call

        def risky(operation, arguments):
            what = {True: " source", False: " artifact"}.get("hybrid-source" in arguments.get("Key", ""), "")
            call = operation + (what if "Key" in arguments else "")
            return self.chaos.around(call, lambda: call_api(operation, arguments))

        client._make_api_call = risky
        return client


def _text(header):
    return header.decode() if isinstance(header, bytes) else header


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    with read_once(), mock_aws():
        account = EmulatedAccount(tmp_path_factory.mktemp("jobs"))
        yield account
        account.service.close()


class RiskyStore(Store):
    def __init__(self, chaos):
        super().__init__()
        self._chaos = chaos

    def get(self, key):
        return self._chaos.around("store get", lambda: super(RiskyStore, self).get(key))

    def set(self, key, value):
        self._chaos.around("store set", lambda: super(RiskyStore, self).set(key, value))


class Life:
    """One task instance and the world around it."""

    def __init__(self, account, seed):
        self.account = account
        self.chaos = account.chaos = Chaos(seed)
        self.random = random.Random(seed)
        self.backend = SageMakerBackend(account)
        self.clock = lambda: datetime.now(UTC)
        identity = Identity(installation="here", dag_id="retrain", run_id=f"life-{seed}", task_id="train")
        self.task = Task(self, identity)
        self.task.store = RiskyStore(self.chaos)
        self.task.pause = self.pause
        self.spec = TrainingSpec(
            model_name="digits", image_uri=IMAGE, role="train", instance_type="ml.m5.large",
            entry_point="train.py", source=SourceBundle(f"{seed:064x}", b"a script"),
            output_path=f"s3://{BUCKET}/jobs", environment={"PLAN": "wait"},
        )  # fmt: skip
        self.bad_ends = self.random.randint(0, 3)
        self.kills = self.random.randint(0, 2)
        self.delivered = []

    @property
    def jobs(self):
        """The ledger's entries of this life."""
        run = self.task.identity.run_id
        return [job for job in self.account.service.ledger.entries if job.tags["hybrid:run"] == run]

    def pause(self, _):
        """The world goes on: a job may end, well or badly, or a user kills the task."""
        for job in self.jobs:
            if job.running and (job.status == "Stopping" or self.random.random() < 0.4):
                self._end(job)
        killed = self.kills > 0 and self.random.random() < 0.3
        self.kills -= killed
        return killed

    def _end(self, job):
        if job.status != "Stopping":
            puppet = self.account.puppets.of(job.name)
            bad = self.bad_ends > 0 and self.random.random() < 0.5
            self.bad_ends -= bad
            match self.random.choice(["script", "stopped", "empty"]) if bad else "well":
                case "script":
                    puppet.finish(1, failure="ZeroDivisionError")
                case "stopped":
                    self.account.service.stop_training_job({"TrainingJobName": job.name})
                case "empty":
                    puppet.finish(model=False)
                case _:
                    puppet.finish()
        assert self.account.service._jobs[job.name].finished.wait(60)

    def until_delivered(self):
        """Retries, and clears where Airflow would not retry, until the task has succeeded."""
        for _ in range(60):
            try:
                self.delivered.append(self.attempt())
            except Crash:
                # The worker is gone and the world goes on without it.
                self.pause(None)
            except HybridError as error:
                if not error.retryable:
                    self.task.clear()
            else:
                return
        raise AssertionError("the task never succeeded")

    def attempt(self):
        process = self.task.process(self.backend)
        with process.never_left_billing():
            started = process.start(self.spec)
            watched = process.wait(process.watch(started.ref))
            while process.starts_again(started, watched):
                started = process.start(self.spec)
                watched = process.wait(process.watch(started.ref))
            return process.deliver(started, watched)

    def judge(self, trainings):
        """What the ledger must show after so many successes."""
        jobs = self.jobs
        assert not any(job.running for job in jobs), self.task.identity.run_id
        good = [job.name for job in jobs if job.status == "Completed" and self.account.has_artifact(job.name)]
        assert good == [result["job"] for result in self.delivered]
        assert len(good) == trainings
        billed = {job.name: job.billed_seconds for job in jobs}
        assert [result["billable_seconds"] for result in self.delivered] == [billed[name] for name in good]
        # No generation was started twice, and none was left out.
        assert len(jobs) == dict.get(self.task.store, STATE_KEY)["generation"]


def test_two_hundred_crashing_lives_end_with_one_successful_job_each_and_pay_for_no_other(account, capsys):
    hits = Counter()
    for seed in SEEDS:
        life = Life(account, seed)
        life.until_delivered()
        life.judge(1)

        # A user clears the task after its success: one more training, whatever crashes.
        life.task.clear()
        life.until_delivered()
        life.judge(2)
        hits += life.chaos.hits

    ledger = account.service.ledger
    with capsys.disabled():
        print(f"\ncrashes in {len(SEEDS)} lives:", *(f"  {at}: {hits[at]}" for at in BOUNDARIES), sep="\n")
        print(
            f"{len(ledger.started)} jobs started, {ledger.billed_seconds} s billed, {len(ledger.running)} running"
        )
    assert ledger.running == ()
    assert min(hits[at] for at in BOUNDARIES) > 0


def test_a_training_that_always_fails_is_paid_once_a_clear_and_by_no_retry(account):
    life = Life(account, len(SEEDS))
    life.chaos.left = 0
    life.bad_ends = 10**6
    life.random.random = lambda: 0.0
    life.random.choice = lambda _: "script"
    life.kills = 0
    for clears in range(1, 4):
        # The second is a retry of a task that Airflow took for lost before it had told of its failure.
        for _ in range(2):
            with pytest.raises(TrainingFailed, match="ZeroDivisionError"):
                life.attempt()
        assert len(life.jobs) == clears
        life.task.clear()
