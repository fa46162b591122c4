"""When the fast path's rules are due, and how long they are postponed."""

import asyncio

import msgspec
import pytest

from agent.network.fastpath import nft
from agent.network.fastpath.nft import NftFastPath
from tests.unit.agent.network.test_fastpath_rules import NAMES, task

TURN_S = 0.001
AT_MOST_S = 30.0


@pytest.fixture
def fast_path(monkeypatch: pytest.MonkeyPatch) -> NftFastPath:
    monkeypatch.setattr(nft, "_QUIET_S", TURN_S)

    async def generation() -> int:
        raise AssertionError("nothing is written here")

    return NftFastPath(NAMES, generation, on=True)


async def test_only_a_task_with_a_fast_path_makes_it_due(fast_path: NftFastPath) -> None:
    without = msgspec.structs.replace(task(2), neighbours=())
    fast_path.moved([without])
    waiting = asyncio.create_task(fast_path.due())
    await asyncio.sleep(10 * TURN_S)
    assert not waiting.done()
    fast_path.moved([task(2)])
    async with asyncio.timeout(AT_MOST_S):
        await waiting


async def test_tasks_that_never_stop_coming_do_not_put_it_off_for_ever(
    fast_path: NftFastPath,
) -> None:
    async def come() -> None:
        while True:
            fast_path.moved([task(2)])
            await asyncio.sleep(0)

    coming = asyncio.create_task(come())
    async with asyncio.timeout(AT_MOST_S):
        await fast_path.due()
    coming.cancel()
