"""Docker targets for tests: what is asked of them, and what answers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import httpx

from hybrid_provider.targets.docker import Strategy
from hybrid_provider.targets.target import Order, Placement
from tests.images import ROUTER


def serving(target, **settings):
    """The same target, serving in another way."""
    return replace(target, serving=replace(target.serving, **settings))


def behind_a_router(target):
    return serving(target, strategy=Strategy.BLUE_GREEN, router_image=ROUTER)


def order_of(release, rollout="r-1", *, seconds=20.0, keep=5, **more):
    return Order(
        model=release.model,
        release=release,
        rollout=rollout,
        healthy_deadline=timedelta(seconds=seconds),
        lease=timedelta(seconds=60),
        keep_releases=keep,
        **more,
    )


@asynccontextmanager
async def opened(target):
    each = target.open(Placement())
    try:
        yield each
    finally:
        await each.close()


async def deploy(target, release, rollout="r-1", **more):
    order = order_of(release, rollout, **more)
    async with opened(target) as each:
        await each.preflight(order)
        staged = await each.stage(order, lambda _: None)
        await each.activate(order, release.release_id)
        await each.commit(order)
        await each.finish(order)
    return staged


async def inspect(target, model, **how):
    async with opened(target) as each:
        return await each.inspect(model, **how)


async def answer(target, method="GET", content=None):
    """What the container at the target's port answers, once it listens."""
    async with httpx.AsyncClient() as client, asyncio.timeout(30):
        while True:
            try:
                return await client.request(
                    method, f"http://127.0.0.1:{target.serving.port}/ping", content=content
                )
            except httpx.TransportError:
                await asyncio.sleep(0.05)


def listens(target):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", target.serving.port)) == 0


async def served(target):
    """The release that answers."""
    return (await answer(target)).headers.get("X-Release-Id")
