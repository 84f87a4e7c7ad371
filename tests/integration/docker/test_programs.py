"""Probes that run in the serving container, and whether its image has what they run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.preflight import Preflight
from hybrid_provider.rollout.probe import AllProbes, CommandProbe, HttpProbe, TcpProbe
from hybrid_provider.targets.target import Placement
from tests.images import ROUTER, SERVER
from tests.integration.docker.registry import registry
from tests.integration.docker.targets import serving

POLICY = RolloutPolicy.of({"bake_time": 0, "min_healthy_time": 0, "healthy_deadline": 30, "drain": 0})
IN_IT = HttpProbe(on_host=True)


async def rolled_out(target, release, probe):
    journal = []
    rollout = Rollout(
        release, [target.open(Placement())], probe, POLICY, rollout_id="r-1", journal=journal.append
    )
    result = await rollout.run()
    return result.targets[0], [str(entry.state) for entry in journal if entry.target]


@pytest.mark.parametrize(
    "case",
    [
        (ROUTER, CommandProbe(command="true"), ["sh"]),
        (ROUTER, IN_IT, ["sh", "curl or wget"]),
        (SERVER, AllProbes((IN_IT, TcpProbe(port=8080, on_host=True))), ["nc"]),
    ],
    ids=["a command", "http", "tcp"],
)
async def test_what_an_image_lacks_is_found_before_a_byte_is_sent(target, releases, docker, model, case):
    image, probe, lacked = case
    target = serving(target, image=image, networks=("lost",))
    told, states = await rolled_out(target, releases[0], probe)
    assert (str(told.state), states) == ("FAILED_NO_CHANGE", ["PREFLIGHT", "FAILED_NO_CHANGE"])
    for each in lacked:
        assert f"the probe runs {each} in the container, and image {image} has none; take" in told.error
    assert told.error.count("the probe runs") == len(lacked)
    # With all else that is wrong.
    assert "network lost is not on the engine" in told.error
    assert docker.names("volume", model) == docker.names("container", model) == []
    preflight = Preflight(
        [target.open(Placement())], model, probe, POLICY, rollout_id="r-2", tell=lambda *_: None
    )
    assert (await preflight.run())[0].error == told.error


async def test_a_probe_whose_programs_the_image_has_runs_in_the_container(target, releases, model):
    probes = AllProbes((IN_IT, CommandProbe(command='[ "$HYBRID_RELEASE_ID" = "$RELEASE_ID" ]')))
    told, _ = await rolled_out(target, releases[0], probes)
    assert (str(told.state), told.error) == ("SUCCEEDED", None)


async def test_programs_are_looked_for_where_the_container_will_look(
    target, releases, docker, model, tmp_path
):
    program, tcp = tmp_path / "nc", TcpProbe(port=8080, on_host=True)
    program.write_text("#!/bin/sh\nexec wget -q -O /dev/null http://$2:$3/ping\n")
    tools = ("create", "--label", f"hybrid.model={model}", "--volume", f"{tmp_path}:/tools", SERVER)
    sidecar = docker.engine.docker(*tools).strip()
    with_tools = serving(target, host_config={"VolumesFrom": [sidecar]}, env={"PATH": "/bin:/tools"})
    # A file that nobody may run is no program.
    program.chmod(0o644)
    told, _ = await rolled_out(with_tools, releases[0], tcp)
    assert "the probe runs nc in the container" in told.error
    program.chmod(0o755)
    told, _ = await rolled_out(with_tools, releases[0], tcp)
    assert (str(told.state), told.error) == ("SUCCEEDED", None)
    elsewhere = serving(target, env={"PATH": "/bin/sh:/opt"})
    told, _ = await rolled_out(elsewhere, releases[1], IN_IT)
    assert "runs sh in" in told.error
    assert "runs curl or wget in" in told.error


async def test_an_image_that_was_pulled_is_looked_into_before_the_release_is_sent(
    target, releases, docker, model
):
    with registry(docker.engine, SERVER) as images:
        target = replace(serving(target, image=images.image), login=images.login)
        told, states = await rolled_out(target, releases[0], TcpProbe(port=8080, on_host=True))
    assert "the probe runs nc in the container" in told.error
    assert (states[-2:], told.bytes_sent) == (["STAGING", "FAILED_NO_CHANGE"], 0)
    assert docker.names("volume", model) == docker.names("container", model) == []
