"""Calls that end leave nothing that only a look at all objects would find: a leader takes none."""

import asyncio
import gc
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from controller.app import Controller
from controller.config import Config
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.clock import MINUTE
from tests.integration.controller.fleet import config, leading, serving, until, user, web

CALLS = 20
SLACK = 20
"""Objects of the process that makes the calls."""


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path, heartbeat=MINUTE)


@pytest.fixture
async def controller(settings: Config) -> AsyncIterator[Controller]:
    async with serving(settings, MemoryStore(MemoryKv(), SteadyClock())) as found:
        await leading(found)
        async with user(settings) as api:
            await api.CreateService(web(1))
        yield found


@pytest.mark.parametrize(
    ("kinds", "way"),
    [
        ("session,watch,events,logs,tunnel", "cancelled"),
        ("session,watch,events,logs,tunnel", "killed"),
        ("session,tunnel", "closed"),
        ("session", "rejected"),
        ("session", "ended by the server"),
    ],
)
async def test_old_calls_that_end_leave_nothing_to_the_garbage_collector(
    controller: Controller, settings: Config, kinds: str, way: str
) -> None:
    loop = controller.current()
    token = loop.state.cluster.worker_token
    words = [kinds, way, *settings.listen, token, str(CALLS)]
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"{__package__}.ends", *words, stdin=PIPE, stdout=PIPE
    )
    assert caller.stdin is not None
    assert caller.stdout is not None
    try:
        assert await caller.stdout.readline()
        await until(lambda: _under_way() >= CALLS, "the server has all calls")
        gc.collect()  # what opening them left
        gc.disable()
        caller.stdin.write(b"\n")
        if way == "ended by the server":
            loop.sessions.close_all()
        await caller.wait()
        await until(lambda: not _under_way(), "the server has let go of all calls")
        found = gc.collect()
    finally:
        gc.enable()
        await _ended(caller)
    assert found <= SLACK


async def _ended(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


def _under_way() -> int:
    return sum(type(found).__name__ == "_ServicerContext" for found in gc.get_objects())
