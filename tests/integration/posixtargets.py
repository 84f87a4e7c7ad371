"""Deploys to one POSIX target, step by step, for tests."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from datetime import timedelta

import pytest

from hybrid_provider.targets.target import Order, Placement
from tests.releases import make_release
from tests.servers import REQUIRE_ALL


def odd_release(folder):
    """A file of some parts, one whose name a shell must not read, and an empty one."""
    return make_release(
        folder, {"model.onnx": os.urandom(700_000), "a b/ü 'quoted' $(name)": b"odd", "empty": b""}
    )


def order_of(release, rollout="r-1", keep=5, seconds=20):
    return Order(
        model="digits",
        release=release,
        rollout=rollout,
        healthy_deadline=timedelta(seconds=seconds),
        lease=timedelta(seconds=60),
        keep_releases=keep,
    )


async def staged(spec, order):
    opened = spec.open(Placement())
    readiness = await opened.preflight(order)
    result = await opened.stage(order, lambda _: None)
    return opened, readiness, result


async def deployed(spec, release, rollout, keep=5):
    order = order_of(release, rollout, keep)
    opened, _, result = await staged(spec, order)
    await opened.activate(order, release.release_id)
    await opened.commit(order)
    await opened.finish(order)
    await opened.close()
    return result


class ShellWith:
    """A host's shell that finds programs of this folder before its own."""

    def __init__(self, shell, folder):
        self.shell, self.folder = shell, folder

    def __getattr__(self, name):
        return getattr(self.shell, name)

    async def run(self, script, stdin=None, limit=None):
        return await self.shell.run(f"PATH={self.folder}:$PATH; export PATH\n{script}", stdin, limit)


def with_program(opened, folder, name, text):
    """The host has another program of this name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    opened._shell = ShellWith(opened._shell, folder)
    return opened


@contextmanager
def small_disk(folder, megabytes):
    folder.mkdir(parents=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        reason = f"mounting a small disk needs root: {mount.stderr.strip()}"
        pytest.fail(reason) if REQUIRE_ALL else pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
