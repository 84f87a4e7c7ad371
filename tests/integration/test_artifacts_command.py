"""``python -m hybrid_provider.artifacts``, as a person and as a script use it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from hybrid_provider.artifacts import command_line
from hybrid_provider.artifacts.__main__ import main

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(bucket: Bucket, tmp_path, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
        "AWS_ENDPOINT_URL_S3": bucket.endpoint,
        "AWS_REGION": "eu-central-1",
        "AIRFLOW__HYBRID__STORE_ROOT": str(tmp_path / "store"),
        "HYBRID_SIGNING_PASSWORD": "secret",
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def run(environment, capsys):
    """Runs a command in this process: its exit code, and what it prints as JSON or as text."""

    def run(*arguments, model="digits", as_json=True):
        more = [*(["--model", model] if model else []), *(["--json"] if as_json else [])]
        code = main([*map(str, arguments), *more])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if as_json else printed.out + printed.err

    return run


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    return folder


@pytest.fixture
def keys(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_an_artifact_is_synced_listed_verified_pinned_and_pruned(bucket: Bucket, run):
    releases = []
    for number in range(3):
        bucket.put("command/model.onnx", b"%d" % number)
        code, release = run("sync", bucket.uri("command/model.onnx"))
        assert (code, release["reused_bytes"]) == (0, 0)
        releases.append(release["release_id"])
    assert run("sync", bucket.uri("command/model.onnx"))[1]["reused_bytes"] == 1

    pinned, candidate = releases[0], releases[-1]
    assert run("pin", pinned, "--reason", "audit") == (0, {"release_id": pinned, "pinned": True})
    code, listed = run("list", model=None)
    assert [row["release_id"] for row in listed] == sorted(releases)
    notes = {row["release_id"]: row["notes"] for row in listed}
    assert notes == {pinned: ["pinned: audit"], candidate: ["candidate"], releases[1]: []}
    assert {row["uri"] for row in listed} == {bucket.uri("command/model.onnx")}
    assert run("verify") == (0, {release_id: [] for release_id in releases})

    would_go = run("prune", "--keep", 1, "--dry-run")[1]["removed"]
    code, pruned = run("prune", "--keep", 1)
    assert (pruned["removed"], pruned["kept"][pinned]) == (would_go, "pinned")
    assert pruned["kept"][candidate] == "candidate"
    run("unpin", pinned)
    run("prune", "--keep", 1)
    # They are of one second, so any of them may count as the newest.
    assert {row["release_id"] for row in run("list")[1]} == {candidate, max(releases)}


def test_people_read_tables_and_sentences(run, model):
    assert "1 file, 7 B" in run("import", model, as_json=False)[1]
    assert "damaged" not in run("list", as_json=False)[1]
    assert "as it was" in run("verify", as_json=False)[1]
    assert "is pinned" in run("pin", "latest", as_json=False)[1]
    assert "stays: pinned" in run("prune", as_json=False)[1]
    assert "no releases of model letters in " in run("list", model="letters", as_json=False)[1]


def test_a_sync_can_be_told_to_keep_what_came_of_any_transfer(run, model, monkeypatch):
    given = []
    monkeypatch.setattr(command_line, "sync", lambda *_, transfer, **__: given.append(transfer) or 1 / 0)
    for arguments in ([], ["--resumable-from", "0"]):
        with pytest.raises(ZeroDivisionError):
            run("sync", (model / "model.onnx").as_uri(), "--model", "digits", *arguments)
    assert [transfer.resumable_from.total_seconds() for transfer in given] == [60, 0]


def test_files_of_this_machine_are_synced_as_those_of_a_cloud(run, model):
    code, release = run("sync", f"file://{model}/")
    assert (code, release["size_bytes"]) == (0, 7)
    assert run("sync", f"file://{model}/", "--expected-region", "eu-central-1")[0] == 2


def test_damage_is_found_and_is_a_failure(run, model, tmp_path):
    _, release = run("import", model)
    Path(release["path"], "model.onnx").write_bytes(b"weight5")
    assert run("verify", "latest") == (
        1,
        {release["release_id"]: ["model.onnx: changed since it was verified"]},
    )
    (tmp_path / "store/digits/manifests" / release["release_id"]).unlink()
    code, faults = run("verify")
    assert (code, "gone or damaged" in faults[release["release_id"]][0]) == (1, True)
    assert run("list")[1][0]["notes"] == ["damaged"]
    assert "remove its folder" in run("verify", as_json=False)[1]


def test_a_release_whose_folder_was_removed_is_mended_by_the_next_sync(run, model):
    uri = f"file://{model}/"
    _, release = run("sync", uri)
    Path(release["path"], "model.onnx").write_bytes(b"weight5")
    assert run("verify")[0] == 1
    shutil.rmtree(release["path"])
    assert run("sync", uri)[1]["release_id"] == release["release_id"]
    assert run("verify") == (0, {release["release_id"]: []})


def test_a_number_of_releases_that_cannot_be_kept_is_told_before_the_transfer(run, model):
    assert run("sync", f"file://{model}/", "--keep-releases", "0")[0] == 2
    assert run("list")[1] == []


def test_nothing_to_verify_is_a_failure(run):
    """A name that is spelled wrong must not look like a model that was found good."""
    code, failure = run("verify", model="letters")
    assert (code, failure["error"]) == (1, "ReleaseNotFound")


def test_a_folder_is_signed_before_it_is_uploaded(bucket: Bucket, run, model, keys):
    private, public = keys
    code, signed = run("sign", "--folder", model, "--key", private)
    assert (code, signed["signature"]) == (0, str(model / "model.sig"))
    for name in ("model.onnx", "model.sig"):
        bucket.put(f"command-signed/{name}", (model / name).read_bytes())
    uri = bucket.uri("command-signed/")
    code, release = run(
        "sync", uri, "--public-key", public, "--allowed-source", uri, "--allowed-format", "gguf"
    )
    assert code == 1
    assert "'model.onnx' is of the format onnx" in release["message"]
    assert run("sync", uri, "--public-key", public, "--allowed-format", "strict")[0] == 0


def test_a_release_is_signed_in_the_store(run, model, keys, tmp_path):
    private, public = keys
    run("import", model)
    assert run("verify", "--public-key", public)[0] == 1
    code, signed = run("sign", "--key", private, "--output", tmp_path / "model.tar.gz.sig")
    assert code == 0
    assert Path(signed["signature"]).read_text().startswith('{"mediaType"')
    assert run("verify", "--public-key", public)[0] == 0
    assert run("sign", "nothing", "--key", private)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["sync", "s3://artifacts/command/absent"], 1, "ArtifactNotFound"),
        (["sync", "/tmp/model.tar.gz"], 2, "ConfigurationError"),
        (["sync", "s3://artifacts/x", "--profile", "nobody"], 2, "ConfigurationError"),
        (["sync", "s3://artifacts/x", "--endpoint-url", "http://127.0.0.1:1"], 75, "ArtifactUnavailable"),
        (["sync", "s3://artifacts/x", "--allowed-source", "s3://other/"], 1, "ArtifactRefused"),
        (["verify", "latest"], 1, "ReleaseNotFound"),
        (["prune", "--keep", "0"], 2, "ConfigurationError"),
        (["import", "/nonexistent"], 1, "ArtifactNotFound"),
    ],
)
def test_the_exit_code_says_whose_turn_it_is(run, arguments, code, error):
    ran, said = run(*arguments)
    assert (ran, said["error"], said["retryable"]) == (code, error, code == 75)


def test_without_json_a_mistake_is_one_line(run):
    code, printed = run("verify", model="../etc", as_json=False)
    assert code == 2
    assert printed.startswith("error: model name '../etc'")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("given", ["--region", "AWS_REGION", "AWS_DEFAULT_REGION", None])
def test_the_region_comes_from_the_option_or_the_environment(
    bucket: Bucket, run, monkeypatch, tmp_path, given
):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    bucket.put("command/region/weights", b"1")
    option = [given, "eu-central-1"] if given == "--region" else []
    if given and not option:
        monkeypatch.setenv(given, "eu-central-1")
    code, said = run("sync", bucket.uri("command/region/weights"), *option)
    if given:
        assert code == 0, said
    else:
        assert code == 2
        assert "give --region, or set AWS_REGION" in said["message"]


def test_a_store_must_be_named(run, monkeypatch):
    monkeypatch.delenv("AIRFLOW__HYBRID__STORE_ROOT")
    assert run("list")[0] == 2


def command(*arguments):
    return [sys.executable, "-m", "hybrid_provider.artifacts", *map(str, arguments)]


def test_ctrl_c_ends_a_stalled_sync_without_a_traceback(environment):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        port = silent.getsockname()[1]
        with subprocess.Popen(
            command("sync", "s3://artifacts/x", "--model", "m", "--endpoint-url", f"http://127.0.0.1:{port}"),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = silent.accept()
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, printed = process.communicate(timeout=60)
            connection.close()
    assert (process.returncode, printed) == (130, "interrupted; the store is as it was\n")


def until_closed(terminal: int) -> str:
    shown = b""
    with suppress(OSError):  # as a terminal says that nobody writes to it any more
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    os.close(terminal)
    return shown.decode()


def test_a_terminal_gets_a_bar(bucket: Bucket, environment, tmp_path):
    bucket.put("command/bar.bin", os.urandom(1 << 20))
    terminal, other_end = pty.openpty()
    with subprocess.Popen(
        command("sync", bucket.uri("command/bar.bin"), "--model", "m"),
        stderr=other_end,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        text=True,
    ) as process:
        os.close(other_end)
        shown = until_closed(terminal)
        printed, _ = process.communicate(timeout=60)
    assert "1.0/1.0 MB" in shown
    assert "synced and verified" in printed


def test_a_reader_that_has_seen_enough_is_no_error(environment, run, model):
    run("import", model)
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(command("list"), stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_help_names_every_command(environment):
    printed = subprocess.run(command("--help"), capture_output=True, text=True, check=True).stdout
    for name in ("sync", "import", "list", "verify", "pin", "unpin", "prune", "sign"):
        assert f"    {name} " in printed
