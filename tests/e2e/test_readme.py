"""The README's code blocks, run as they stand; only what needs a real account or a published package is not."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(<!-- no-run: .*? -->\n)?```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def blocks(language):
    return [text for marker, kind, text in BLOCKS if kind == language and not marker]


def test_at_most_three_blocks_are_not_run_and_each_says_why():
    marked = [marker for marker, _, _ in BLOCKS if marker]

    assert len(marked) <= 3
    assert all(len(marker) > len("<!-- no-run:  -->\n") for marker in marked)


def test_the_two_commands_are_make_targets_that_ci_runs():
    (commands,) = [text for text in blocks("sh") if text.startswith("make ")]
    ci = (ROOT / ".ci" / "run").read_text()
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for line in commands.splitlines():
        target = line.split("#")[0].split()[1]
        assert f"make {target} " in listed
        assert f"make {target}" in ci


def test_the_password_command_is_the_one_that_the_compose_test_runs():
    (command,) = [text for text in blocks("sh") if text.startswith("docker compose")]
    stack = (ROOT / "tests" / "compose" / "conftest.py").read_text()

    assert command.split()[-4:] == ["exec", "api-server", "cat", "/var/lib/hybrid/secrets/admin_password"]
    assert '"api-server", "cat", "/var/lib/hybrid/secrets/admin_password"' in stack


def test_the_dag_runs_from_training_to_live(place, run_dag):
    (dag,) = blocks("python")
    # A later test's scheduler is not to train as well, which on a Sunday it would at once.
    quick = dag.replace('"bake_time": 60', '"bake_time": 1').replace('schedule="@weekly"', "schedule=None")
    assert "schedule=None" in quick
    Path(place.environment["AIRFLOW__CORE__DAGS_FOLDER"], "readme.py").write_text(quick)

    ran = run_dag("retrain_digits")

    assert ran.state == "success", ran.log
    assert ran.xcoms["deploy"]["state"] == "SUCCEEDED"


def test_the_connections_are_added_by_the_commands_and_read_back(place, tmp_path):
    environment = {
        name: value for name, value in place.environment.items() if not name.startswith("AIRFLOW_CONN_")
    }
    environment["PATH"] = f"{Path(place.airflow()[0]).parent}:{environment['PATH']}"
    for command in [text for text in blocks("sh") if text.startswith("airflow connections add")]:
        subprocess.run(["sh", "-ec", command], env=environment, check=True, capture_output=True)
    exported = tmp_path / "connections.json"
    subprocess.run(
        place.airflow("connections", "export", exported), env=environment, check=True, capture_output=True
    )
    added = json.loads(exported.read_text())

    assert added["aws_default"]["conn_type"] == "aws"
    assert added["edge_01"]["host"] == "line-07.factory.example"


@pytest.mark.parametrize("path", sorted((ROOT / "docs/iam").glob("*.json")), ids=lambda path: path.stem)
def test_the_iam_policies_are_accepted_by_iam(place, path):
    iam, policy = place.emulator.client("iam"), path.read_text()
    if path.stem.endswith("-trust"):
        created = iam.create_role(RoleName=path.stem, AssumeRolePolicyDocument=policy)["Role"]["RoleName"]
    else:
        created = iam.create_policy(PolicyName=path.stem, PolicyDocument=policy)["Policy"]["PolicyName"]

    assert created == path.stem


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_the_links_lead_somewhere(link):
    assert (ROOT / link).exists()
