"""Agents whose connections are slow."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.app import Controller
from controller.config import Config
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from tests.integration.controller.fleet import (
    FakeAgent,
    config,
    leading,
    serving,
    until,
)

ONE_WAY_S = 0.1
"""Of a connection around the globe."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(MemoryKv(), SteadyClock())


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


@pytest.fixture
async def controller(settings: Config, store: MemoryStore) -> AsyncIterator[Controller]:
    async with serving(settings, store) as found:
        await leading(found)
        yield found


async def test_a_host_with_a_slow_connection_gets_a_session(
    controller: Controller, settings: Config
) -> None:
    host, _, port = settings.advertise_addr.rpartition(":")

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await asyncio.sleep(ONE_WAY_S)
            sink.write(data)
        sink.close()

    async def relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        far_source, far_sink = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(carry(source, far_sink), carry(far_source, sink))
        finally:
            far_sink.close()
            sink.close()

    def accept(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        relays.append(asyncio.create_task(relay(source, sink)))

    relays: list[asyncio.Task[None]] = []

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as line:
        address = f"127.0.0.1:{line.sockets[0].getsockname()[1]}"
        agent = FakeAgent("host1")
        await agent.join(address, controller.current().state.cluster.worker_token)
        session = asyncio.create_task(agent.converse(address))
        await until(lambda: agent.full_sets or session.done(), "its session stands")
        assert agent.full_sets == 1
        for task in (session, *relays):
            task.cancel()
        await asyncio.gather(session, *relays, return_exceptions=True)
