"""Users' watches of services: computed once per change, for all watchers. SHELL.

A watch runs a `Look`, a sliced computation over one service. The first watcher that finds the
result out of date computes it, and the others wait; if that watcher leaves, the next one does it. A
look runs again only after its service was touched, and after a pause that grows with its slices, so
that watches take a bounded share of the leader's time, whatever the number of watchers and changes.
Level-triggered: a result shows the state at that time, and the next one includes changes that were
missed.
"""

import asyncio
from asyncio import sleep
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

from controller.brain.slices import Slices, WatchResult
from controller.leader.slicing import RateLimiter, SliceRunner
from pyswarm_core.clock import NEVER, Clock, Instant, seconds
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.limits import TOLD_AT_ONCE, WATCH_PAUSE
from pyswarm_core.state import State

T = TypeVar("T")

Look = Callable[[State, str, Instant], Slices[WatchResult[T]]]
"""Computes what is shown of a service, or of one of its tasks, by id."""


class Seen(NamedTuple, Generic[T]):
    """What a look found."""

    value: T
    settled: bool
    """Whether the service did not change during the look. If it did, parts of the value are from
    different moments, so the value may not be taken as final.
    """


class _Watch(Generic[T]):
    """One look at one service, and its watchers."""

    def __init__(self, work: Callable[[], Slices[WatchResult[T]]], clock: Clock) -> None:
        self.seen: Seen[T] | None = None
        self.version = 0
        self.watchers = 0
        self.finished = 0
        """The number of the last look that has ended with a result; they count from 1."""
        self._begun = 0
        self._work = work
        self._clock = clock
        self._due = NEVER
        self._dirty = True
        self._is_looking = False
        self._not_before = 0.0
        self._news = asyncio.Event()

    @property
    def first_valid(self) -> int:
        """The number of the first look that includes all changes made until now."""
        return self._begun + self._dirty

    def touch(self) -> None:
        """What it shows may have changed."""
        self._dirty = True
        self.wake()

    def wake(self) -> None:
        """Wake all watchers."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, runner: SliceRunner) -> None:
        """Look if that is due and no watcher does; else wait until something happens."""
        if self._dirty and not self._is_looking:
            await self._look(runner)
            return
        now = self._clock.now()
        try:
            async with asyncio.timeout(None if self._due == NEVER else seconds(self._due - now)):
                await self._news.wait()
        except TimeoutError:
            self._dirty = self._dirty or not self._is_looking

    async def _look(self, runner: SliceRunner) -> None:
        now = asyncio.get_running_loop().time
        self._is_looking = True
        try:
            await sleep(self._not_before - now())
            self._dirty, self._due = False, NEVER
            self._begun += 1
            try:
                found, slices = await runner.counted(self._work())
            except BaseException:
                self._dirty = True  # the next watcher does it
                raise
            self._due, self.finished = found.due, self._begun
            seen = Seen(found.value, settled=not self._dirty)
            if seen != self.seen:
                self.seen = seen
                self.version += 1
            self._not_before = now() + slices * seconds(WATCH_PAUSE)
        finally:
            self._is_looking = False
            self.wake()


class Watcher(Generic[T]):
    """A follower of one watch."""

    def __init__(self, watches: "Watches", watch: _Watch[T]) -> None:
        self._watches = watches
        self._watch = watch
        self._version = 0
        self._first_valid = watch.first_valid

    async def next(self) -> Seen[T]:
        """The next result that differs from the last one that this watcher got. The first one
        includes all changes made before this watcher: a result that others got earlier may not.

        Raises Unavailable when leadership is lost.
        """
        watch = self._watch
        while (
            watch.version == self._version
            or watch.seen is None
            or watch.finished < self._first_valid
        ):
            self._watches.check()
            await watch.wait(self._watches.runner)
        self._version = watch.version
        return watch.seen


_NOBODY: Mapping[tuple[Look[Any], str], _Watch[Any]] = {}


class Watches:
    """All watches of one term."""

    def __init__(self, state: State, clock: Clock) -> None:
        self.runner = SliceRunner()
        """Runs all sliced work of this term's requests."""
        self.telling = RateLimiter(TOLD_AT_ONCE)
        """Held for each write to a stream that may have many followers."""
        self._state = state
        self._clock = clock
        self._of_service: dict[ServiceId, dict[tuple[Look[Any], str], _Watch[Any]]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(len(watches) for watches in self._of_service.values())

    @contextmanager
    def watching(self, service_id: ServiceId, look: Look[T], ref: str) -> Iterator[Watcher[T]]:
        """Watch the result of `look` at `ref`, which is the service or one of its tasks."""
        state, clock = self._state, self._clock
        watches = self._of_service.setdefault(service_id, {})
        key = (look, ref)
        watch = watches.setdefault(key, _Watch(lambda: look(state, ref, clock.now()), clock))
        watch.watchers += 1
        try:
            yield Watcher(self, watch)
        finally:
            watch.watchers -= 1
            if not watch.watchers:
                del watches[key]
                if not watches:
                    del self._of_service[service_id]

    def touch(self, services: Iterable[ServiceId]) -> None:
        """These services, or tasks of them, changed in the state."""
        if self._of_service:
            for service_id in dict.fromkeys(services):
                for watch in self._of_service.get(service_id, _NOBODY).values():
                    watch.touch()

    def touch_node(self, node_id: NodeId) -> None:
        """The node changed: its name, or whether it is down."""
        if self._of_service:
            tasks = self._state.tasks_of_node(node_id).values()
            self.touch(task.service_id for task in tasks)

    def touch_all(self) -> None:
        """The fleet changed: the number of desired tasks may depend on it."""
        self.touch(tuple(self._of_service))

    def close(self) -> None:
        """Leadership is lost: end every watch."""
        self._closed = True
        for watches in self._of_service.values():
            for watch in watches.values():
                watch.wake()

    def check(self) -> None:
        """Raise Unavailable if leadership was lost."""
        if self._closed:
            raise Unavailable("this controller no longer leads")
