"""Watching: one look per change for all who watch, in slices; no verdict that mixes moments."""

import asyncio
from collections.abc import Callable

import pytest

from controller.api.queries.progress import look_at_progress, service_progress
from controller.brain.slices import Slices, WatchResult, finish
from controller.leader import watches as watches_module
from controller.leader.watches import Watches
from pyswarm_core.clock import MILLISECOND, NEVER, Instant, seconds
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import ServiceId
from pyswarm_core.limits import SLICE_TASKS, WATCH_PAUSE
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW

WATCHERS = 300
WEB = ServiceId("web")


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> Instant:
        return self.time


class Counted:
    """A look that counts its calls and its slices, and can be made to do something between them."""

    def __init__(self, slices: int = 1) -> None:
        self.looks = 0
        self.slices = 0
        self.due = NEVER
        self.between: Callable[[], None] = lambda: None
        self._slices = slices

    def __call__(self, state: State, ref: str, now: Instant) -> Slices[WatchResult[int]]:
        self.looks += 1
        for _ in range(self._slices - 1):
            self.slices += 1
            yield
            self.between()
        self.slices += 1
        return WatchResult(len(state.tasks), self.due)


def tasks(count: int, state: TaskState = TaskState.RUNNING) -> list[Task]:
    return [build.task(f"web.{slot}", node="n1", state=state) for slot in range(1, count + 1)]


def service_of(count: int) -> State:
    state = build.state(nodes=build.nodes(3), services=[build.service("web", replicas=count)])
    state.apply(Writes(tasks=tasks(count)))
    return state


async def test_three_hundred_watchers_cost_one_look_per_change() -> None:
    state = service_of(2)
    watches, look = Watches(state, Hands()), Counted()
    seen: list[int] = []

    async def watch() -> None:
        with watches.watching(WEB, look, WEB) as watcher:
            while True:
                seen.append((await watcher.next()).value)

    crowd = [asyncio.create_task(watch()) for _ in range(WATCHERS)]
    await _until(lambda: len(seen) == WATCHERS)
    assert look.looks == 1
    state.apply(Writes(tasks=[build.task("web.3", node="n1")]))
    watches.touch((WEB,))
    await _until(lambda: len(seen) == 2 * WATCHERS)
    assert look.looks == 2
    assert set(seen) == {2, 3}
    assert len(watches) == 1
    for one in crowd:
        one.cancel()
    await asyncio.wait(crowd)
    assert len(watches) == 0


async def test_other_services_and_changes_that_show_nothing_wake_nobody() -> None:
    watches, look = Watches(service_of(2), Hands()), Counted()
    with watches.watching(WEB, look, WEB) as watcher:
        await watcher.next()
        waiting = asyncio.create_task(watcher.next())
        watches.touch((ServiceId("db"),))
        await asyncio.sleep(0)
        assert look.looks == 1
        watches.touch((WEB,))
        await _until(lambda: look.looks == 2)
        assert not waiting.done()
        waiting.cancel()


async def test_a_look_that_its_watcher_left_is_taken_up_by_another() -> None:
    watches, look = Watches(service_of(2), Hands()), Counted(slices=3)
    with watches.watching(WEB, look, WEB) as first, watches.watching(WEB, look, WEB) as second:
        leaving = asyncio.create_task(first.next())
        staying = asyncio.create_task(second.next())
        await _until(lambda: look.slices > 0)
        leaving.cancel()
        assert (await staying).value == 2
        assert look.looks == 2


async def test_what_changed_while_it_was_looked_at_is_unsettled_and_looked_at_again() -> None:
    watches, look = Watches(service_of(2), Hands()), Counted(slices=2)
    look.between = lambda: watches.touch((WEB,))
    with watches.watching(WEB, look, WEB) as watcher:
        assert not (await watcher.next()).settled
        look.between = lambda: None
        assert (await watcher.next()).settled


@pytest.mark.parametrize("slices", [1, 3])
async def test_the_first_result_of_a_new_watcher_includes_all_earlier_changes(
    slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed = asyncio.Event()
    monkeypatch.setattr(watches_module, "sleep", lambda delay_s: delayed.wait())
    state = service_of(2)
    watches, look = Watches(state, Hands()), Counted(slices=slices)
    with watches.watching(WEB, look, WEB) as first:
        delayed.set()
        assert (await first.next()).value == 2
        delayed.clear()
        state.apply(Writes(tasks=[build.task("web.3", node="n1")]))
        watches.touch((WEB,))
        waiting = asyncio.create_task(first.next())
        await asyncio.sleep(0)
        with watches.watching(WEB, look, WEB) as second:
            joining = asyncio.create_task(second.next())
            await asyncio.sleep(0)
            assert not joining.done()
            delayed.set()
            assert ((await joining).value, (await waiting).value) == (3, 3)
        assert look.looks == 2


async def test_a_new_watcher_waits_for_the_look_that_goes_on() -> None:
    state = service_of(2)
    watches, look = Watches(state, Hands()), Counted(slices=3)
    with watches.watching(WEB, look, WEB) as first:
        await first.next()
        state.apply(Writes(tasks=[build.task("web.3", node="n1")]))
        watches.touch((WEB,))
        waiting = asyncio.create_task(first.next())
        await _until(lambda: look.looks == 2)
        with watches.watching(WEB, look, WEB) as second:
            assert ((await second.next()).value, (await waiting).value) == (3, 3)
        assert look.looks == 2
        with watches.watching(WEB, look, WEB) as third:
            assert (await third.next()).value == 3
        assert look.looks == 2, "nothing changed since"


async def test_what_time_alone_may_change_is_looked_at_when_it_is_due() -> None:
    look, clock = Counted(), Hands()
    watches = Watches(service_of(2), clock)
    look.due = Instant(NOW + MILLISECOND)
    with watches.watching(WEB, look, WEB) as watcher:
        await watcher.next()
        look.due = NEVER
        waiting = asyncio.create_task(watcher.next())
        await _until(lambda: look.looks == 2)
        waiting.cancel()


async def test_a_service_is_looked_at_again_after_a_pause_for_each_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay_s: float) -> None:
        pauses.append(delay_s)
        await sleep(0)

    watches, look = Watches(service_of(2), Hands()), Counted(slices=3)
    monkeypatch.setattr(watches_module, "sleep", noted)
    with watches.watching(WEB, look, WEB) as watcher:
        await watcher.next()
        waiting = asyncio.create_task(watcher.next())
        watches.touch((WEB,))
        await _until(lambda: look.looks == 2)
        waiting.cancel()
    most_s = seconds(3 * WATCH_PAUSE)
    assert pauses[0] <= 0 < pauses[1] <= most_s


async def test_lost_leadership_ends_every_watch() -> None:
    watches = Watches(service_of(1), Hands())
    with watches.watching(WEB, Counted(), WEB) as watcher:
        await watcher.next()
        waiting = asyncio.create_task(watcher.next())
        await asyncio.sleep(0)
        watches.close()
        with pytest.raises(Unavailable):
            await waiting


def test_progress_is_looked_at_in_bounded_slices() -> None:
    count = 3 * SLICE_TASKS
    state = service_of(count)
    looked = _Slots(state)
    work = look_at_progress(state, WEB, NOW)
    for slices in range(1, 100):
        if next(work, "done") == "done":
            break
        assert looked.tasks <= slices * SLICE_TASKS
    assert slices * SLICE_TASKS >= looked.tasks == count
    progress = service_progress(state, WEB, NOW)
    assert (progress.running, progress.converged) == (count, True)


def test_slots_that_went_between_two_slices_are_skipped() -> None:
    state = service_of(2 * SLICE_TASKS)
    work = look_at_progress(state, WEB, NOW)
    next(work)
    state.apply(Writes(removed_tasks=[task.id for task in state.tasks.values()]))
    assert 0 < finish(work).value.running < 2 * SLICE_TASKS


class _Slots(dict[int, tuple[Task, ...]]):
    """A service's slots that count how many tasks were looked at."""

    def __init__(self, state: State) -> None:
        group = state.tasks_of_service(WEB)
        super().__init__(group.slots)
        group.slots = self
        self.tasks = 0

    def get(self, key: int, default: object = None) -> object:  # type: ignore[override]
        self.tasks += 1
        return super().get(key, default)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
