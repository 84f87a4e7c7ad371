"""One process that waits for training jobs, as a triggerer does: all triggers in one event loop.

``python waiting.py ours|amazon INTERVAL`` reads the jobs' names as one JSON line, and then answers. It runs
in the environment of whoever's trigger it is, so it needs no more than Airflow and that provider. It writes
JSON lines: ``{"started": n}``, for each event ``{"job": …, "at": …}``, and for each line that it is sent what
it called so far.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from functools import wraps
from pathlib import Path

CALLS: Counter[str] = Counter()


def main() -> None:
    side, interval = sys.argv[1], int(sys.argv[2])
    logging.disable(logging.WARNING)
    names = json.loads(sys.stdin.readline())
    asyncio.run({"ours": ours, "amazon": amazon}[side](names, interval))


async def ours(names: list[str], interval: int) -> None:
    from botocore.client import BaseClient

    from hybrid_provider.training.backend import JobRef
    from hybrid_provider.triggers.training import TrainingTrigger, TrainingWait

    # The one place that every call of every client passes.
    make_call = BaseClient._make_api_call

    @wraps(make_call)
    def counted(self, operation, arguments):
        CALLS[f"{self.meta.service_model.service_name}.{operation}"] += 1
        return make_call(self, operation, arguments)

    BaseClient._make_api_call = counted
    await wait_for(
        {
            name: TrainingTrigger(
                wait=TrainingWait(job=JobRef(name, name)).to_dict(),
                check_interval=interval,
                print_log=True,
                aws_conn_id="aws_default",
                region_name=None,
                verify=None,
                botocore_config=None,
            )
            for name in names
        }
    )


async def amazon(names: list[str], interval: int) -> None:
    from aiobotocore.client import AioBaseClient
    from airflow.providers.amazon.aws.triggers.sagemaker import SageMakerTrigger

    make_call = AioBaseClient._make_api_call

    @wraps(make_call)
    async def counted(self, operation, arguments):
        CALLS[f"{self.meta.service_model.service_name}.{operation}"] += 1
        return await make_call(self, operation, arguments)

    AioBaseClient._make_api_call = counted
    await wait_for(
        {name: SageMakerTrigger(job_name=name, job_type="Training", waiter_delay=interval) for name in names}
    )


async def wait_for(triggers) -> None:
    tasks = [asyncio.create_task(run(name, trigger)) for name, trigger in triggers.items()]
    say(started=len(tasks), imported=rss_mb())
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        say(calls=CALLS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def rss_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


async def run(name, trigger) -> None:
    async for event in trigger.run():
        say(job=name, at=time.time(), event=event.payload)


def say(**fields) -> None:
    sys.stdout.write(json.dumps(fields, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
