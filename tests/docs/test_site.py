"""The built site: complete, and nothing in it is fetched from elsewhere. `make test-docs` builds it first."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.docs.pages import PAGES, ROOT
from tests.servers import REQUIRE_ALL

SITE = ROOT / "site"


@pytest.fixture(scope="module")
def site():
    if not SITE.is_dir():
        give_up = pytest.fail if REQUIRE_ALL else pytest.skip
        give_up("there is no site; `make docs` builds it")
    return {path.relative_to(SITE): path.read_text() for path in SITE.rglob("*.html")}


def test_every_page_is_there(site):
    for page in PAGES[1:]:
        name = page.relative_to("docs").with_suffix("")
        folder = name.parent if name.name == "index" else name
        assert folder / "index.html" in site


def test_a_reader_s_browser_asks_nobody_else(site):
    fetched = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\bsrc="https?:|<link[^>]*\bhref="https?:|@import|class="mermaid"'
    )

    assert {str(path) for path, html in site.items() if fetched.search(html)} == set()


def test_nothing_that_the_pages_ask_the_code_for_was_left_unmade(site):
    assert {str(path) for path, html in site.items() if "<!-- made:" in html or "--8&lt;--" in html} == set()


def test_no_docstring_shows_the_marks_of_sphinx(site):
    left = re.compile(r":(?:class|func|mod|meth|exc|data):`")

    assert {str(path) for path, html in site.items() if left.search(html)} == set()


def test_a_link_that_leads_nowhere_fails_the_build(site, tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("README.md", "CHANGELOG.md", "dags", "hybrid_provider", "scripts", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs/index.md").open("a") as page:
        page.write("\n[Nowhere](concepts.md#nowhere)\n")
    said = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True)
    (build,) = [line for line in said.stdout.splitlines() if "mkdocs build" in line]

    built = subprocess.run(build, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602

    assert built.returncode == 1, built.stderr
    assert "'#nowhere'" in built.stderr
