"""The slots of one service by spec version, while an update replaces outdated tasks. PURE (mutable:
only `ServiceTasks` changes it).

An update needs at every step the next outdated task, whether the new tasks run, and for how long.
Each answer costs the slots that are left out of it, not all slots of the service.
"""

import heapq
from collections.abc import Collection, Mapping

from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.objects import Task
from pyswarm_core.states import TaskState

_RUNNING = TaskState.RUNNING


_BITS = 40
"""Bits of a slot's number in a key."""
_SLOT = (1 << _BITS) - 1


class Ranking:
    """Slots, each with a number; finds the slot with the lowest number, of equal ones the lowest
    slot.
    """

    __slots__ = ("_heap", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self._heap: list[int] | None = None
        """Keys of number and slot: all current ones, and outdated ones, which are removed when they
        reach the top. None until the first use.
        """

    def put(self, slot: int, number: int) -> None:
        """Set the number of the slot."""
        if self.numbers.get(slot) == number:
            return
        self.numbers[slot] = number
        if self._heap is not None:
            heapq.heappush(self._heap, number << _BITS | slot)
            if len(self._heap) > 64 + 2 * len(self.numbers):
                self._heap = None

    def drop(self, slot: int) -> None:
        """Remove the slot."""
        self.numbers.pop(slot, None)

    def lowest(self, without: Collection[int]) -> tuple[int, int] | None:
        """(number, slot) of the first slot that is not left out; None if there is none."""
        heap = self._heap
        if heap is None:
            heap = self._heap = [number << _BITS | slot for slot, number in self.numbers.items()]
            heapq.heapify(heap)
        left_out: dict[int, None] = {}
        found = None
        while heap and found is None:
            number, slot = heap[0] >> _BITS, heap[0] & _SLOT
            if self.numbers.get(slot) != number:
                heapq.heappop(heap)
            elif slot in without:
                left_out[heapq.heappop(heap)] = None
            else:
                found = number, slot
        for key in left_out:
            heapq.heappush(heap, key)
        return found


class Rollout:
    """The slots of a service by whether their newest task is older than a spec version."""

    __slots__ = ("_oldest", "_outdated", "_restarted", "_starting", "version")

    def __init__(
        self, version: int, slots: Mapping[int, tuple[Task, ...]], unsettled: Collection[int]
    ) -> None:
        self.version = version
        self._outdated = Ranking()
        """By whether their task runs (0 or 1): the desired tasks older than the version."""
        self._starting: dict[int, None] = {}
        """Slots that need nothing, with a task of the version or newer that does not run yet."""
        self._oldest = Ranking()
        """Such slots whose task runs, by the time it started to."""
        self._restarted = Ranking()
        """Those of them whose task follows one that ended by itself, the last to run first."""
        self._begin(slots, unsettled)

    def _begin(self, slots: Mapping[int, tuple[Task, ...]], unsettled: Collection[int]) -> None:
        """Put all slots, in one loop without calls: there may be a hundred thousand."""
        version, outdated, starting = self.version, self._outdated.numbers, self._starting
        oldest, restarted = self._oldest.numbers, self._restarted.numbers
        for slot, tasks in slots.items():
            newest = tasks[-1]
            if newest.spec_version < version:
                if newest.desired_state <= _RUNNING and newest.state <= _RUNNING:
                    outdated[slot] = newest.state is _RUNNING
            elif slot not in unsettled:
                if newest.state is not _RUNNING:
                    starting[slot] = None
                    continue
                oldest[slot] = newest.status_at
                if newest.restarts:
                    restarted[slot] = -newest.status_at

    def put(self, slot: int, tasks: tuple[Task, ...], *, is_settled: bool) -> None:
        """Set the tasks of the slot, oldest first."""
        newest = tasks[-1]
        runs, is_outdated = newest.state is _RUNNING, newest.spec_version < self.version
        if is_outdated and newest.desired_state <= _RUNNING and newest.state <= _RUNNING:
            self._outdated.put(slot, int(runs))
        else:
            self._outdated.drop(slot)
        is_current = is_settled and not is_outdated
        if is_current and not runs:
            self._starting[slot] = None
        else:
            self._starting.pop(slot, None)
        if is_current and runs:
            self._oldest.put(slot, newest.status_at)
        else:
            self._oldest.drop(slot)
        if is_current and runs and newest.restarts:
            self._restarted.put(slot, -newest.status_at)
        else:
            self._restarted.drop(slot)

    def drop(self, slot: int) -> None:
        """Remove the slot: it has no task any more."""
        self._outdated.drop(slot)
        self._starting.pop(slot, None)
        self._oldest.drop(slot)
        self._restarted.drop(slot)

    def next_outdated(self, without: Collection[int]) -> tuple[int, int] | None:
        """Whether its task runs (0 or 1), and the slot to update next: the lowest of those whose
        task does not run, otherwise of all.
        """
        return self._outdated.lowest(without)

    def is_starting(self, without: Collection[int]) -> bool:
        """Whether a new task does not run yet."""
        return any(slot not in without for slot in self._starting)

    def running_since(self, without: Collection[int]) -> Instant:
        """When the new task that has run for the longest started; NEVER if none runs."""
        found = self._oldest.lowest(without)
        return Instant(found[0]) if found else NEVER

    def restarted_at(self, without: Collection[int]) -> Instant:
        """When the last of the restarted new tasks started; 0 if none was restarted."""
        found = self._restarted.lowest(without)
        return Instant(-found[0]) if found else Instant(0)
