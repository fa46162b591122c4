"""When short ways are due to be written, and how long that is put off."""

import asyncio

import msgspec
import pytest

from agent.network.filter import bypass
from agent.network.filter.bypass import Bypass
from tests.unit.agent.network.test_shortcut import task

TURN_S = 0.001
AT_MOST_S = 30.0


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> Bypass:
    monkeypatch.setattr(bypass, "_PEACE_S", TURN_S)

    async def generation() -> int:
        raise AssertionError("nothing is written here")

    return Bypass("t", generation)


async def test_only_a_task_with_a_short_way_makes_them_due(short_ways: Bypass) -> None:
    without = msgspec.structs.replace(task(2), neighbours=())
    short_ways.moved([without])
    waiting = asyncio.create_task(short_ways.peace())
    await asyncio.sleep(10 * TURN_S)
    assert not waiting.done()
    short_ways.moved([task(2)])
    async with asyncio.timeout(AT_MOST_S):
        await waiting


async def test_a_host_without_peace_is_not_waited_for_for_ever(short_ways: Bypass) -> None:
    async def unrest() -> None:
        while True:
            short_ways.moved([task(2)])
            await asyncio.sleep(0)

    disturbing = asyncio.create_task(unrest())
    async with asyncio.timeout(AT_MOST_S):
        await short_ways.peace()
    disturbing.cancel()
