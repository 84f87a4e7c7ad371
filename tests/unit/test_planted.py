"""The bugs that `make test-planted` plants fit the source as it is: one that no longer fits proves nothing."""

from __future__ import annotations

import ast

import pytest

from tests.planted import artifacts, docker, rollout
from tests.planted.bug import ROOT, Bug

BUGS = (*artifacts.BUGS, *docker.BUGS, *rollout.BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_bug_can_be_planted_and_its_suites_are_there(bug: Bug):
    ast.parse(bug.planted())
    assert [suite for suite in bug.suites if not (ROOT / suite.partition("::")[0]).exists()] == []
