"""The documentation as a whole: what is in it, and that a test runs it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import BLOCK, LANGUAGES, PAGES, ROOT, blocks_of

BLOCKS = [(page, block) for page in PAGES for block in blocks_of(page)]


def test_at_most_five_blocks_are_not_run_and_each_says_why():
    reasons = {(block.no_run, block.code) for _, block in BLOCKS if block.no_run is not None}

    assert len(reasons) <= 5
    assert all(len(reason) > 10 for reason, _ in reasons)


def test_every_block_says_what_it_is_in():
    assert {
        (str(page), block.line, block.language) for page, block in BLOCKS if block.language not in LANGUAGES
    } == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_fence_of_a_page_is_overlooked(page):
    text = (ROOT / page).read_text()

    assert 2 * len(BLOCK.findall(text)) == len(re.findall(r"^\s*```", text, flags=re.MULTILINE))


def test_what_is_no_code_is_a_picture_or_a_tree():
    """Code called `text` would be run by nothing, and be none of the five."""
    drawn = re.compile("[│─►→…]")

    assert {
        (str(page), block.line)
        for page, block in BLOCKS
        if block.language == "text" and not drawn.search(block.code)
    } == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_code_stands_where_the_tests_do_not_look(page):
    """Tildes, HTML, and what is indented behind an empty line and belongs to no list, are blocks as well."""
    text = BLOCK.sub("", (ROOT / page).read_text())

    assert re.findall(r"^\s*~~~|<pre|<code", text, flags=re.MULTILINE) == []
    assert re.findall(r"\n\n(?: {4,}|\t)\S.*", text) == []


def test_every_operator_is_in_the_reference_and_every_example_dag_on_its_page():
    reference = (ROOT / "docs/reference/operators.md").read_text()
    examples = (ROOT / "docs/examples.md").read_text()
    modules = [path.stem for path in (ROOT / "hybrid_provider/operators").glob("[!_]*.py")]

    assert [name for name in modules if f"::: hybrid_provider.operators.{name}." not in reference] == []
    assert [
        path.name for path in (ROOT / "dags").glob("*.py") if f"source dags/{path.name} " not in examples
    ] == []


def test_what_the_pages_and_the_examples_import_is_in_the_reference():
    reference = {line for page in PAGES for line in (ROOT / page).read_text().splitlines()}
    examples = [path.read_text() for path in (ROOT / "dags").glob("*.py")]
    imported = {
        f"{node.module}.{name.name}"
        for code in [*examples, *(block.code for _, block in BLOCKS if block.language == "python")]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("hybrid_provider")
        for name in node.names
    }

    assert {name for name in imported if f"::: {name}" not in reference} == set()


def test_every_metric_is_in_the_table_of_metrics_and_no_other():
    listed = re.findall(
        r"^\| `(hybrid\.[\w.]+)` \|", (ROOT / "docs/fleet.md").read_text(), flags=re.MULTILINE
    )
    sources = [path.read_text() for path in (ROOT / "hybrid_provider").rglob("*.py")]
    counted = {
        found for text in sources for found in re.findall(r'"(hybrid\.(?:rollout|target|train)\.\w+)"', text)
    }

    assert set(listed) == counted


def test_every_extra_of_a_connection_that_is_read_is_in_the_reference():
    page = (ROOT / "docs/reference/configuration.md").read_text()
    hooks = [(ROOT / f"hybrid_provider/hooks/{name}.py").read_text() for name in ("ssh", "docker_engine")]
    by_name = r'extra(?:\.get\(|\[)"(\w+)"|(?:_seconds|_duration)\(conn_id, extra, "(\w+)"'
    read = {name for text in hooks for found in re.findall(by_name, text) for name in found if name}

    assert {name for name in read if f"`{name}`" not in page} == set()


def test_the_programs_that_a_host_needs_are_those_that_preflight_looks_for():
    (listed,) = re.findall(
        r"POSIX's own `([\w ]+)`, and beyond\nthese `([\w ]+)`", (ROOT / "docs/ssh-hosts.md").read_text()
    )
    preflight = (ROOT / "hybrid_provider/targets/scripts/preflight.sh").read_text()
    (asked,) = re.findall("tools='(.*)'", preflight)

    assert sorted(" ".join(listed).split()) == asked.split()


def test_every_test_that_the_comparison_calls_as_a_witness_is_there():
    witnesses = re.findall(r"`(test_\w+)`", (ROOT / "docs/comparison.md").read_text())
    files = ("test_training_weaknesses", "test_rollout_killed_worker")
    tests = "".join((ROOT / f"tests/integration/{name}.py").read_text() for name in files)

    assert len(witnesses) == 6
    assert all(f"def {name}(" in tests for name in witnesses)


def test_what_the_comparison_says_is_measured_is_in_the_benchmark():
    (block,) = [
        block for page, block in BLOCKS if str(page) == "docs/comparison.md" and block.language == "sh"
    ]
    bench = (ROOT / "benchmarks/sync.py").read_text()
    seed = bench.partition("def seed(")[2].partition("\n    def ")[0]

    assert [command.split()[0] for command in block.code.split("&&")] == ["aws", "sha256sum", "tar"]
    assert re.findall(r'self\.run\((?:self\.tools / )?"(\w+)"', seed) == ["aws", "sha256sum", "tar"]


def test_what_the_site_shows_is_in_its_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    shown = set(re.findall(r"- (?:\w+: )?([\w/-]+\.md)$", navigation, flags=re.MULTILINE))

    assert {str(page.relative_to("docs")) for page in PAGES if page.parts[0] == "docs"} == shown
