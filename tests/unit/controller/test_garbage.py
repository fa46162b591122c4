"""A leader looks for garbage when enough sessions have ended, after a breath, and not by itself."""

import asyncio
import gc
import weakref

import pytest

from controller.garbage import ENDED_SESSIONS, NEVER, freeze, tend, unseen


class Cycle:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


class Desk:
    """Counts for `tend`, which sleeps as often as there are counts, and then is cancelled."""

    def __init__(self, *ended: int) -> None:
        self.ended_now = 0
        self.breaths = 0
        self.thresholds: list[tuple[int, int, int]] = []
        self._coming = list(ended)

    async def run(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            await tend(lambda: self.ended_now, self._breathe, self._sleep)

    async def _breathe(self) -> None:
        self.breaths += 1

    async def _sleep(self, delay_s: float) -> None:
        self.thresholds.append(gc.get_threshold())
        if not self._coming:
            raise asyncio.CancelledError
        self.ended_now = self._coming.pop(0)


async def test_few_ended_sessions_are_no_reason_to_pause() -> None:
    desk = Desk(ENDED_SESSIONS - 1, ENDED_SESSIONS - 1)
    await desk.run()
    assert desk.breaths == 0


async def test_many_ended_sessions_are_a_reason_once() -> None:
    desk = Desk(ENDED_SESSIONS, ENDED_SESSIONS + 1, 2 * ENDED_SESSIONS)
    old = Cycle()
    gc.collect()  # it is old now: no look at the young finds it
    gone = weakref.ref(old)
    del old
    await desk.run()
    assert desk.breaths == 2
    assert gone() is None


async def test_the_interpreter_looks_at_everything_only_when_nobody_leads() -> None:
    before = gc.get_threshold()
    desk = Desk(0)
    await desk.run()
    assert {whole for _, _, whole in desk.thresholds} == {NEVER}
    assert gc.get_threshold() == before


async def test_what_a_term_froze_is_looked_at_again_when_it_ends() -> None:
    gc.unfreeze()
    freeze()
    assert gc.get_freeze_count()
    await Desk(0).run()
    assert not gc.get_freeze_count()


def test_nothing_is_looked_for_until_what_was_loaded_is_frozen() -> None:
    enabled: list[bool] = []
    with unseen(lambda: enabled.append(gc.isenabled())):
        enabled.append(gc.isenabled())
    assert enabled == [False, False]
    assert gc.isenabled()
