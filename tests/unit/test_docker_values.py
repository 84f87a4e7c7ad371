"""What a Docker target makes of its settings, without an engine."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.hooks.fleet import fleet_of
from hybrid_provider.targets.docker import EngineAddress, EngineTls, Healthcheck, Layout, Serving, Strategy
from hybrid_provider.targets.docker.container import alias_of, router_body, serving_body, spec_of
from hybrid_provider.targets.docker.haproxy import Routes, Server, configuration
from hybrid_provider.targets.docker.holdings import Role, labels_of, name_of, read_clock, read_holdings
from hybrid_provider.targets.docker.logs import split_frames
from hybrid_provider.targets.docker.serving import version_of

PAGE = (Path(__file__).parents[2] / "docs/docker-targets.md").read_text()
MODEL, DIGEST = "digits", "d" * 64
IDS = [f"20261123T180{n}00Z-{n:012}" for n in range(5)]
PLAIN = Serving(image="server")
ROUTED = Serving(image="server", strategy=Strategy.BLUE_GREEN, router_image="haproxy:3.0", port=9000)


def body_of(serving, release_id=IDS[0]):
    return serving_body(serving, MODEL, release_id, DIGEST, name="c", rollout="r-1", spec="s")


def test_the_page_s_example_is_a_fleet():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102 - the page's own text
    assert [spec.name for spec in fleet_of(names["targets"])] == ["gpu-01", "here"]


@pytest.mark.parametrize("layout", Layout)
def test_each_layout_is_as_the_page_says(layout):
    serving = replace(PLAIN, layout=layout)
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{layout}`"))
    folder = serving.mounted_at("<model>", IDS[0]).replace(
        str(version_of(IDS[0])), "<date of the release as an integer>"
    )
    asked = serving.asked_for_readiness("<model>")
    readiness = f"`GET {asked}`" if asked else "a connection"
    assert row == f"| `{layout}` | `{folder}` | {readiness} | {serving.served_port} |"


def test_a_newer_release_has_a_higher_version_for_tensorflow_serving():
    versions = [version_of(release_id) for release_id in IDS]
    assert versions == sorted(set(versions))
    assert (versions[0], version_of("nightly")) == (20261123180000, 1)


def test_a_release_and_its_proof_are_mounted_read_only_whatever_else_is_asked():
    body = body_of(replace(PLAIN, host_config={"CapDrop": ["ALL"]}, cpus=1.5, gpus=-1))
    host = body["HostConfig"]
    assert [(mount["Target"], mount["ReadOnly"]) for mount in host["Mounts"]] == [
        ("/opt/ml/model", True),
        ("/hybrid", True),
    ]
    assert (host["CapDrop"], host["NanoCpus"]) == (["ALL"], 1_500_000_000)
    assert host["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]
    # Nothing that is not committed comes up with its host.
    assert host["RestartPolicy"] == {"Name": "no"}


def test_the_user_s_variables_and_labels_do_not_replace_ours():
    serving = replace(PLAIN, env={"HYBRID_DIGEST": "mine", "A": "1"}, labels={"hybrid.role": "router"})
    body = body_of(serving)
    assert {"A=1", f"HYBRID_DIGEST={DIGEST}", f"MODEL_NAME={MODEL}"} <= {*body["Env"]}
    assert body["Labels"]["hybrid.role"] == "serving"


def test_only_what_is_in_front_opens_the_port():
    assert body_of(PLAIN)["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert "PortBindings" not in body_of(ROUTED)["HostConfig"]
    router = router_body(ROUTED, MODEL)
    assert router["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "", "HostPort": "9000"}]}
    assert router["Labels"] != router_body(replace(ROUTED, port=9001), MODEL)["Labels"]


def test_two_ways_of_serving_are_told_apart_and_two_releases_are_not():
    assert spec_of(PLAIN, "sha256:1") == spec_of(replace(PLAIN), "sha256:1")
    others = [
        spec_of(PLAIN, "sha256:2"),
        spec_of(replace(PLAIN, env={"A": "1"}), "sha256:1"),
        spec_of(replace(PLAIN, healthcheck=Healthcheck(command=("/ready",))), "sha256:1"),
    ]
    assert len({spec_of(PLAIN, "sha256:1"), *others}) == 4


def test_an_alias_is_a_host_name_though_a_container_s_name_is_none():
    alias = alias_of(name_of(MODEL, Role.SERVING, IDS[0], "1-ab-1"))
    assert re.fullmatch(r"[a-z0-9-]{1,63}", alias)
    assert alias != alias_of(name_of(MODEL, Role.SERVING, IDS[1], "1-ab-1"))


def test_what_is_wrong_with_a_serving_is_said_in_one_message():
    with pytest.raises(ConfigurationError) as raised:
        Serving(
            image="a b",
            folder="/a/../b",
            port=0,
            cpus=-1,
            strategy=Strategy.BLUE_GREEN,
            host_config={"Binds": []},
        )
    for word in ("an image is called", "folder", "port 0", "cpus -1", "router_image", "Binds is set by"):
        assert word in str(raised.value)
    with pytest.raises(ConfigurationError, match="no setting is called imgae, prot; there are address"):
        Serving.of({"image": "a", "prot": 1, "imgae": "b"})


def test_a_serving_comes_from_json():
    check = {"command": ["/ready"], "interval": 0.5}
    given = {"image": "a", "layout": "plain", "networks": ["n"], "healthcheck": check}
    assert Serving.of(json.loads(json.dumps(given))) == Serving(
        image="a",
        layout=Layout.PLAIN,
        networks=("n",),
        healthcheck=Healthcheck(command=("/ready",), interval=timedelta(seconds=0.5)),
    )


TLS = EngineTls(ca_cert=Path("ca"), client_cert=Path("c"), client_key=Path("k"))


@pytest.mark.parametrize(
    ("url", "tls", "message"),
    [
        ("tcp://edge:2375", None, "only spoken to over mutual TLS"),
        ("tcp://", TLS, "it is like tcp://edge-07:2376"),
        ("tcp://edge:port", TLS, "it is like tcp://edge-07:2376"),
        ("unix://relative.sock", None, "absolute path"),
        ("unix:///var/../etc/sock", None, "absolute path"),
        ("unix:///var/run/docker.sock", TLS, "mutual TLS is for tcp://"),
        ("http://edge:2375", None, "it is no tcp://"),
    ],
)
def test_an_engine_s_url_that_cannot_be_right_is_refused(url, tls, message):
    with pytest.raises(ConfigurationError, match=message):
        EngineAddress(url=url, tls=tls)
    assert EngineAddress(url="tcp://[fd00::7]", tls=TLS).base_url == "https://[fd00::7]:2376"


def server(n):
    return Server(alias=f"serving-{n}", port=8080, release=IDS[n], ready_path="/ping")


def test_a_trial_s_requests_go_back_by_the_router_s_own_clock():
    routes = Routes(live=server(0), trial=server(1), begun=1763999900.5, deadline=1764000000.9)
    text = configuration(routes, "abcd", timedelta(seconds=5))
    # Before its beginning as well: where the clock was put back, the deadline would come a long time after.
    within = "{ date ge 1763999900 } { date lt 1764000000 }"
    assert f"    use_backend trial if {within} {{ nbsrv(trial) gt 0 }}\n    default_backend live" in text
    assert re.findall(r"X-Release-Id (\S+)", text) == [IDS[0], IDS[1]]
    assert "hard-stop-after 65s" in text
    kept = configuration(Routes(live=server(1)), "abcd", timedelta(seconds=5))
    assert ("use_backend" in kept, IDS[0] in kept) == (False, False)


def test_a_candidate_is_asked_and_gets_no_request():
    text = configuration(Routes(candidate=server(1)), "abcd", timedelta(0))
    assert "http-check send meth GET uri /ping" in text
    assert "use_backend" not in text
    # Before a first release nobody answers.
    assert "backend live\n    http-request return status 503" in text
    unasked = configuration(Routes(candidate=replace(server(1), ready_path="")), "abcd", timedelta(0))
    assert "http-check" not in unasked


def volume(role, *words, **labels):
    return {"Name": name_of(MODEL, role, *words), "Labels": labels_of(MODEL, role, **labels)}


def container(release_id, token, *, running):
    labels = labels_of(MODEL, Role.SERVING, release=release_id, digest=DIGEST, spec="s")
    name = name_of(MODEL, Role.SERVING, release_id, token)
    return {"Names": [f"/{name}"], "Labels": labels, "State": "running" if running else "exited"}


def released(*ids):
    roles = (Role.RELEASE, Role.PROOF)
    return [volume(role, each, release=each, digest=DIGEST) for each in ids for role in roles]


def record(number, release_id, token, previous=None):
    named = {"release": release_id, "digest": DIGEST, "previous": previous, "rollout": "r", "token": token}
    name = name_of(MODEL, Role.SERVING, release_id, token)
    return volume(Role.RECORD, number, number=number, container=name, since=1.0, **named)


def trial(release_id, token, deadline):
    name = name_of(MODEL, Role.SERVING, release_id, token)
    named = {"token": token, "release": release_id, "container": name}
    return volume(Role.TRIAL, token, **named, begun=50.0, deadline=deadline)


def test_what_is_on_trial_is_live_until_its_deadline_and_then_what_was_committed():
    volumes = [*released(*IDS[:2]), record(1, IDS[0], "1-1"), trial(IDS[1], "2-1", deadline=100.0)]
    both = [container(IDS[0], "1-1", running=True), container(IDS[1], "2-1", running=True)]
    for clock, live in ((49.0, IDS[0]), (50.0, IDS[1]), (99.0, IDS[1]), (100.0, IDS[0])):
        found = read_holdings(MODEL, clock, volumes, both)
        assert (found.live.release, found.settled.release) == (live, IDS[0])
    # Where the old one was stopped for it, the one on trial is all that serves.
    alone = [container(IDS[0], "1-1", running=False), container(IDS[1], "2-1", running=True)]
    assert read_holdings(MODEL, 200.0, volumes, alone).live.release == IDS[1]


def test_the_record_with_the_highest_number_counts():
    records = [record(9, IDS[0], "1-1"), record(10, IDS[1], "2-1", previous=IDS[0])]
    found = read_holdings(MODEL, 0.0, [*released(*IDS[:2]), *records], [])
    assert (found.record.release, found.previous) == (IDS[1], IDS[0])
    assert read_holdings(MODEL, 0.0, [*released(IDS[1]), *records], []).previous is None


def test_a_release_without_a_proof_is_none_and_what_is_prunable_spares_what_is_needed():
    pin = volume(Role.PIN, release=IDS[0])
    volumes = [*released(*IDS), record(2, IDS[3], "3-1", previous=IDS[1]), pin]
    found = read_holdings(MODEL, 0.0, volumes, [])
    assert found.prunable(1) == [IDS[2]]
    unproven = volume(Role.RELEASE, "x", release="20261123T190000Z-x")
    assert read_holdings(MODEL, 0.0, [unproven], []).unproven == ("20261123T190000Z-x",)


def test_labels_that_are_not_as_we_write_them_are_passed_over():
    odd = [
        {"Name": "other", "Labels": None},
        volume(Role.LEASE, 1, rollout="r", epoch="one", nonce="n", expires=1),
        volume(Role.RECORD, 1, number=1),
        volume(Role.TRIAL, "1-1", token="1-1"),
        {"Name": "x", "Labels": labels_of("another", Role.PIN, release=IDS[0])},
        {"Name": "y", "Labels": {"hybrid.model": MODEL, "hybrid.role": "unknown"}},
        *released("../etc"),
    ]
    found = read_holdings(MODEL, 0.0, odd, [{"Names": ["/x"], "Labels": {}, "State": "running"}])
    assert (found.leases, found.records, found.trials, found.pinned) == ((), (), (), None)
    assert (found.releases, found.containers) == ({}, {})


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T18:46:00.123456789Z",
        "2026-11-23T18:46:00Z",
        "2026-11-23T18:46:00.5+00:00",
        "2026-11-23T13:46:00.123456789-05:00",
        "2026-11-24T00:16:00+05:30",
    ],
)
def test_the_engine_s_clock_is_read_whatever_its_digits_and_its_time_zone(text):
    """A router counts in seconds since 1970: one to the west never gave a trial a request, one to the east for hours."""
    assert read_clock(text) == 1795459560.0


def test_output_and_errors_are_told_apart_in_a_stream_that_was_cut():
    def frame(kind, text):
        return struct.pack(">BxxxL", kind, len(text)) + text

    content = frame(1, b"out ") + frame(2, b"err") + frame(1, "ü".encode()) + frame(1, b"lost")[:6]
    assert split_frames(content) == ("out ü", "err")
