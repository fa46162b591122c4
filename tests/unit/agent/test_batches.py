"""Much work at once leaves heartbeats their turn."""

import asyncio
from itertools import pairwise
from pathlib import Path

from agent.worker import ASSIGNED_AT_ONCE, Worker
from tests.unit.agent.test_worker import NODE, Host, assigned, task


async def test_a_large_assignment_leaves_heartbeats_their_turn(tmp_path: Path) -> None:
    """Counted: how many tasks are taken on between two turns of somebody else."""
    many = [task(f"{number:025}") for number in range(200)]
    sizes = [0]

    async def others(worker: Worker) -> None:
        while True:
            sizes.append(len(worker.records))
            await asyncio.sleep(0)

    host = Host(tmp_path)
    async with host.worker() as worker:
        beating = asyncio.ensure_future(others(worker))
        await worker.assign(assigned(*many), NODE)
        beating.cancel()
        sizes.append(len(worker.records))
    assert sizes[-1] == 200
    assert max(after - before for before, after in pairwise(sizes)) <= ASSIGNED_AT_ONCE
