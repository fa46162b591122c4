"""The end of a rotation of the CA, as a leader waits for it."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api import rotations
from controller.identity.rotation import begun
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Unavailable
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET

OVER = Instant(NOW + 10 * SECOND)


class Over:
    """The rotation has lasted as long as it has to."""

    def now(self) -> Instant:
        return OVER


async def test_a_store_that_takes_no_writes_ends_no_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotations, "LOOK_PERIOD_S", 0.001)
    state = build.state()
    state.apply(Writes(cluster=replace(begun(FLEET.cluster, NOW))))
    full = iter((True, True, False))

    class Full:
        """A leader whose store has no space at first."""

        def __init__(self) -> None:
            self.state = state

        async def submit(self, mutation: Any, caller: Any) -> None:
            if next(full):
                raise Unavailable("the store has no space")
            writes, _ = mutation(state, OVER, build.Numbered())
            state.apply(writes)

    leader: Any = Full()
    ending = asyncio.create_task(rotations.end_rotations(leader, Over()))
    try:
        async with asyncio.timeout(60):
            while state.cluster.former_roots:  # noqa: ASYNC110  # the state tells nobody
                await asyncio.sleep(0.001)
        assert not ending.done()
    finally:
        ending.cancel()
