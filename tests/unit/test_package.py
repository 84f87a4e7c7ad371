"""What Airflow and pip learn of the package: metadata, entry points, and what the wheel holds."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import jsonschema
import pytest

import hybrid_provider
from hybrid_provider.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
AIRFLOW = Path(importlib.util.find_spec("airflow").submodule_search_locations[0])


@pytest.mark.parametrize("schema", ["provider_info.schema.json"])
def test_the_provider_info_is_what_airflow_s_own_schema_asks_for(schema):
    jsonschema.validate(get_provider_info(), json.loads((AIRFLOW / schema).read_text()))


def test_both_entry_points_load():
    ours = distribution("airflow-provider-hybrid").entry_points
    (provider,) = ours.select(group="apache_airflow_provider")
    (plugin,) = ours.select(group="airflow.plugins")

    assert provider.load()()["package-name"] == "airflow-provider-hybrid"
    assert plugin.load().name == "hybrid"


def test_every_class_that_the_provider_info_names_can_be_imported():
    info = get_provider_info()
    names = (
        [entry["hook-class-name"] for entry in info["connection-types"]]
        + info["extra-links"]
        + info["notifications"]
    )

    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_airflow_lists_the_provider():
    listed = subprocess.run(
        [Path(sys.executable).parent / "airflow", "providers", "list", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    providers = {row["package_name"]: row["version"] for row in json.loads(listed.stdout)}

    assert providers["airflow-provider-hybrid"] == hybrid_provider.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        check=True,
    )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert tops == {"hybrid_provider", f"airflow_provider_hybrid-{hybrid_provider.__version__}.dist-info"}


def test_the_wheel_holds_every_module_every_shell_script_and_the_page_of_the_package(wheel):
    folder = ROOT / "hybrid_provider"
    files = {str(path.relative_to(ROOT)) for kind in ("*.py", "*.sh", "*.js") for path in folder.rglob(kind)}

    assert files <= set(wheel.namelist())
    assert "hybrid_provider/targets/scripts/activate.sh" in files
    assert "hybrid_provider/fleet/static/fleet.js" in files
    assert "hybrid_provider/py.typed" in wheel.namelist()


def test_the_wheel_s_metadata_names_license_extras_and_framework(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    metadata = wheel.read(name).decode()

    assert "License-Expression: Apache-2.0" in metadata
    assert "Provides-Extra: emulator" in metadata
    assert "Classifier: Framework :: Apache Airflow :: Provider" in metadata


def test_the_constraints_pin_every_dependency_and_name_no_host():
    text = (ROOT / "constraints.txt").read_text()
    pinned = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(x for extra in project["optional-dependencies"].values() for x in extra),
    ]
    names = {requirement.split(";")[0].split(">")[0].split("[")[0].strip().lower() for requirement in asked}

    assert "://" not in text
    assert {name for name in names if name not in pinned} <= {"pip"}, "run `make constraints`"


HEAVY = {"boto3", "botocore", "asyncssh", "obstore", "docker", "isal", "onnxruntime", "moto", "numpy"}


MODULES = [
    "operators.train", "operators.sync", "operators.deploy", "operators.gate", "sensors.artifact", "triggers.training", "triggers.artifact",
]  # fmt: skip


def test_importing_the_operators_costs_the_scheduler_no_heavy_library():
    imports = "; ".join(f"import hybrid_provider.{module}" for module in MODULES)
    script = (
        f"import airflow.sdk, sys; before = set(sys.modules); {imports}; print(*(set(sys.modules) - before))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert HEAVY.isdisjoint(printed.stdout.split())
