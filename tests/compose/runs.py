"""DAG runs on the stack, asked for and watched through the REST API as a person would through the UI."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from playground import dataset
from playground.environment import MODEL

RUN_SECONDS = 600
HOSTS = ("edge-01", "edge-02", "edge-03")

# Asks one host's model server from within the host, with the requests on standard input.
ASK = """
import json, os, sys, urllib.request
asked = urllib.request.Request("http://127.0.0.1:8080/invocations", sys.stdin.buffer.read())
with urllib.request.urlopen(asked) as reply:
    predictions = json.load(reply)["predictions"]
with urllib.request.urlopen("http://127.0.0.1:8080/ping") as reply:
    served = reply.headers["X-Release-Id"]
link = os.path.expanduser("~/models/%s/current")
# A host with an engine has no folder of releases: what it has is what its container serves.
current = os.path.basename(os.path.realpath(link)) if os.path.exists(link) else served
print(json.dumps({"predictions": predictions, "served": served, "current": current}))
"""

PING = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8080/ping").headers["X-Release-Id"])
"""


class Run:
    """One run of one DAG."""

    def __init__(self, stack, api, dag, conf):
        """Ask for it as the UI's button does."""
        self.stack, self.api = stack, api
        deadline = time.monotonic() + 120
        while api.get(f"/dags/{dag}").status_code != 200:
            if time.monotonic() > deadline:
                pytest.fail(f"the DAG processor did not find {dag}\n{stack.explain()}")
            time.sleep(1)
        api.patch(f"/dags/{dag}", json={"is_paused": False}).raise_for_status()
        asked = api.post(f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        self.path = f"/dags/{dag}/dagRuns/{asked.raise_for_status().json()['dag_run_id']}"

    def wait(self, until, what):
        """Poll until ``until(self)`` is true; fail with all that is known when it takes too long."""
        deadline = time.monotonic() + RUN_SECONDS
        while not until(self):
            if time.monotonic() > deadline or (what != "ended" and self.state in {"success", "failed"}):
                pytest.fail(f"the run is {self.state}, and not {what}\n{self.explain()}")
            time.sleep(1)

    def end(self):
        """Wait for the end; the state it ended in."""
        self.wait(lambda run: run.state not in {"queued", "running"}, "ended")
        return self.state

    def ask(self, path=""):
        """What the API tells of the run; asked again while the API server or its database is away."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            try:
                return self.api.get(f"{self.path}{path}").raise_for_status().json()
            except (httpx.TransportError, httpx.HTTPStatusError) as failure:
                if time.monotonic() > deadline or "404" in str(failure):
                    pytest.fail(f"{failure}\n{self.stack.explain()}")
                time.sleep(1)

    @property
    def state(self):
        return self.ask()["state"]

    def tasks(self):
        """Task to what the API tells of it."""
        return {each["task_id"]: each for each in self.ask("/taskInstances")["task_instances"]}

    def xcom(self, task):
        return self.ask(f"/taskInstances/{task}/xcomEntries/return_value")["value"]

    def explain(self):
        """The tasks' states, the logs of those that are not green, and every container's."""
        tasks = self.tasks().values()
        texts = [f"{task['task_id']}: {task['state']}, try {task['try_number']}" for task in tasks]
        for task in tasks:
            if task["state"] not in {"success", None} and task["try_number"]:
                url = f"{self.path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
                texts.append(json.dumps(self.api.get(url).json(), indent=1)[-6000:])
        return "\n".join([*texts, self.stack.explain()])


def until(holds, what, stack):
    """Poll until ``holds()``; fail with every container's state and log when it takes too long."""
    deadline = time.monotonic() + RUN_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {RUN_SECONDS} s\n{stack.explain()}")
        time.sleep(0.5)


def answered(stack, host):
    """The release that a host's model server answers with; empty while nothing answers."""
    return stack.compose("exec", "-T", host, "python3", "-c", PING, check=False).strip()


def served(stack):
    """What each host serves, has as its current release, and whether it recognises digits."""
    rows = dataset.held_out()
    requests = json.dumps({"instances": rows.pixels.tolist()})
    found = {}
    for host in HOSTS:
        told = stack.compose("exec", "-T", host, "python3", "-c", ASK % MODEL, given=requests)
        answer = json.loads(told)
        right = sum(a == b for a, b in zip(answer["predictions"], rows.labels.tolist(), strict=True))
        found[host] = (answer["served"], answer["current"], right / len(rows.labels) > 0.8)
    return found


def serving(release):
    """What :func:`served` gives where all is well."""
    return dict.fromkeys(HOSTS, (release, release, True))


def current(stack, host):
    """The release that a host's ``current`` names; None before the first."""
    link = f"/home/edge/models/{MODEL}/current"
    return stack.compose("exec", "-T", host, "readlink", link, check=False).strip() or None
