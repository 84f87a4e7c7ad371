"""The secrets that the compose stack begins with: each at random, but for the password that a person chooses."""

from __future__ import annotations

import json

import pytest

from containers import make_secrets


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """The file that compose mounts; it is not there before a test writes it."""
    monkeypatch.setattr(make_secrets, "CHOSEN", tmp_path / "chosen")
    monkeypatch.setenv("COMPOSE_PROFILES", "")
    return tmp_path / "chosen"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Makes the secrets as a start of the stack does; each by its name."""
    folders = [tmp_path / "secrets", tmp_path / "site"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr("sys.argv", ["make_secrets.py", *map(str, folders)])

    def start():
        assert make_secrets.main() == 0
        return {file.name: file.read_text() for file in folders[0].iterdir()}

    return start


def test_outside_the_demo_no_password_is_made_up_and_the_error_says_how_to_give_one(chosen, start, tmp_path):
    with pytest.raises(SystemExit, match="AIRFLOW_ADMIN_PASSWORD_FILE"):
        start()

    assert list((tmp_path / "secrets").iterdir()) == []


def test_an_empty_file_is_no_password(chosen, start):
    chosen.write_text("\n")

    with pytest.raises(SystemExit, match="has no password"):
        start()


def test_the_password_is_the_one_in_the_file_and_changes_with_it(chosen, start):
    chosen.write_text("correct horse\n")
    first = start()
    chosen.write_text("battery staple\n")
    second = start()

    assert json.loads(first["passwords.json"]) == {"admin": "correct horse"}
    assert json.loads(second["passwords.json"]) == {"admin": "battery staple"}
    assert second["admin_password"] == "battery staple\n"
    assert {name for name in first if first[name] != second[name]} == {"admin_password", "passwords.json"}


def test_the_password_is_kept_where_the_file_is_not_given_again(chosen, start):
    chosen.write_text("correct horse\n")
    start()
    chosen.unlink()

    assert json.loads(start()["passwords.json"]) == {"admin": "correct horse"}


def test_two_demos_have_no_secret_in_common(chosen, start, monkeypatch, tmp_path):
    monkeypatch.setenv("COMPOSE_PROFILES", "other,demo")
    first = start()
    for folder in ("secrets", "site"):
        for file in (tmp_path / folder).iterdir():
            file.unlink()
    second = start()

    assert len(first) == 9
    assert set(first.values()).isdisjoint(second.values())


def test_the_sites_worker_gets_one_secret_and_nobody_else_may_read_any(chosen, start, tmp_path):
    chosen.write_text("correct horse\n")
    secrets = start()

    assert [file.name for file in (tmp_path / "site").iterdir()] == ["jwt_secret"]
    assert (tmp_path / "site" / "jwt_secret").read_text() == secrets["jwt_secret"]
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("s*/*")} == {0o640}
