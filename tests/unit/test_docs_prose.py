"""Commands, options and settings that the pages name in their sentences; test_blocks.py runs those in blocks."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from hybrid_provider.get_provider_info import get_provider_info
from tests.docs.pages import BLOCK, PAGES, ROOT

PROSE = {page: BLOCK.sub("", (ROOT / page).read_text()) for page in [*PAGES, Path("CHANGELOG.md")]}
SPANS = [
    (page, " ".join(span.split()))
    for page, text in PROSE.items()
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
]
MODULES = ("artifacts", "evidence", "rollout", "emulator")
# mypy's, and `docker volume prune`'s.
OF_OTHERS = {"--strict", "--all"}


def named(beginning):
    """The spans that begin so, each with the pages that have it, as the ids of tests."""
    found = {}
    for page, span in SPANS:
        if span.startswith(beginning):
            found.setdefault(span, []).append(str(page))
    return [pytest.param(span, id=f"{span} ({', '.join(pages)})") for span, pages in found.items()]


def told(capsys, module, *commands):
    """The words of a command's own help."""
    with pytest.raises(SystemExit) as ended:
        import_module(f"hybrid_provider.{module}.__main__").main([*commands, "--help"])
    assert ended.value.code == 0
    return set(re.findall(r"[\w-]+", capsys.readouterr().out))


def commands_of(capsys, module):
    """The commands of a module that its reference shows, which another test holds against the module."""
    (line,) = re.findall(
        rf"made: help hybrid_provider.{module}(.*) -->", (ROOT / "docs/reference/commands.md").read_text()
    )
    return line.split()


@pytest.mark.parametrize("span", named("make "))
def test_make_has_each_target_and_each_variable(span):
    makefile = (ROOT / "Makefile").read_text()
    for word in span.split()[1:]:
        name, gives, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if gives else rf"^{name}:.*## ", makefile, flags=re.MULTILINE), word


@pytest.mark.parametrize("span", named("python -m hybrid_provider."))
def test_each_command_line_has_the_commands_and_options(span, capsys):
    _, _, dotted, *rest = span.split()
    module = dotted.partition(".")[2]
    if module == "…":
        return
    commands = rest[0].split("|") if rest and not rest[0].startswith("--") else []
    for command in commands or [None]:
        words = told(capsys, module, *filter(None, [command]))
        assert {word for word in rest if word.startswith("--")} <= words


@pytest.mark.parametrize("span", named("--"))
def test_each_option_alone_is_one_of_a_command_of_ours(span, capsys):
    option = span.split()[0]
    known = OF_OTHERS.union(
        *(
            told(capsys, module, *filter(None, [command]))
            for module in MODULES
            for command in [None, *commands_of(capsys, module)]
        )
    )
    assert option in known


@pytest.mark.parametrize("span", named("airflow "))
def test_airflow_takes_each_of_its_commands(span):
    from airflow.cli.cli_parser import get_parser

    assert get_parser().parse_args(shlex.split(span)[1:])


@pytest.mark.parametrize("span", named("docker compose -f "))
def test_compose_reads_the_file_that_is_there_and_does_what_its_test_does(span):
    _, _, _, file, verb, *_ = span.split()

    assert (ROOT / file).is_file()
    assert verb in {"up", "exec", "down", "build"}


@pytest.mark.parametrize("span", named("pip install"))
def test_pip_finds_each_extra(span):
    ((name, extra),) = re.findall(r"'([\w-]+)\[(\w+)\]'", span)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert name == project["name"]
    assert extra in project["optional-dependencies"]


def test_every_setting_that_a_page_or_the_code_names_is_one_of_the_provider():
    known = set(get_provider_info()["config"]["hybrid"]["options"])
    texts = [*PROSE.values(), *((ROOT / page).read_text() for page in PAGES)]
    texts += [path.read_text() for path in (ROOT / "hybrid_provider").rglob("*.py")]
    named = {name.lower() for text in texts for name in re.findall(r"AIRFLOW__HYBRID__(\w+)", text)}
    named |= {name for text in texts for name in re.findall(r"\[hybrid\] (\w+)", text)}

    assert named <= known


def test_no_kind_of_command_in_a_sentence_is_overlooked():
    """A span that begins with a program is one that a test above reads, or one of these, which are not ours."""
    ours = r"(make|python -m hybrid_provider|airflow|pip install|docker compose -f)\b"
    programs = r"(make|python3?|airflow|pip|docker|aws|ssh|sshd|systemctl|curl|openssl|cosign|tar|git)\s+-?\w"
    theirs = {
        span for _, span in SPANS if re.match(programs, span) and not re.match(ours, span) and "…" not in span
    }

    assert theirs == {
        "aws s3 cp",
        "curl -i http://host:8080/ping",
        "docker compose",  # the program
        "docker container prune",
        "docker run --gpus",
        "docker system prune",
        "docker volume prune --all",
        "ssh -W %h:%p bastion",
        "sshd -T -C user=model,host=worker,addr=10.20.0.1",
        "tar xzf",
    }
