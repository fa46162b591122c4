"""The slots of one service while an update or a rollback goes on: outdated ones, those in flight,
those that failed. PURE (mutable: only `ServiceTasks` changes it).

A step of an update needs the next outdated tasks, how many slots are in flight, and for how long
the new tasks have run. Each answer costs the slots in flight and those that are left out of it, not
all slots of the service.
"""

import heapq
from collections.abc import Collection, Mapping

from pyswarm_core.clock import Instant
from pyswarm_core.indexes.in_place import awaits_in_place, refuses_limits
from pyswarm_core.objects import Service, Task, ended_unasked
from pyswarm_core.states import TaskState

_RUNNING = TaskState.RUNNING

_BITS = 40
"""Bits of a slot's number in a key."""
_SLOT = (1 << _BITS) - 1


def serves(task: Task) -> bool:
    """Whether it runs and may receive connections."""
    return task.state is _RUNNING and task.detail.serving


def is_outdated(service: Service, task: Task) -> bool:
    """Whether it has to be replaced: it was made from another template than the current one, or its
    limits cannot be changed.
    """
    return not service.is_current(task.spec_version) or refuses_limits(service, task)


def is_made(service: Service, task: Task) -> bool:
    """Whether the update made it; one that it keeps is older."""
    return task.spec_version >= _made_from(service)


def is_first(service: Service, task: Task) -> bool:
    """Whether the update made it, and no task before it in its slot ended by itself since."""
    return is_made(service, task) and not task.restarts and not task.failed_update


def _made_from(service: Service) -> int:
    """The oldest spec version that the update makes tasks from. One that began with a change of
    limits alone does not make those that it finds.
    """
    template, limits, status = (
        service.template_version,
        service.in_place_version,
        service.update_status,
    )
    if limits > template and status is not None and service.is_current(status.from_version):
        return limits
    return template


def is_failure(service: Service, task: Task) -> bool:
    """Whether its slot counts as failed: the first task of the update ended unasked within the
    monitored time, or runs and does not serve (`Task.failed_update`). The failures before a paused
    update was resumed do not count.
    """
    status = service.update_status
    if status is None or not is_made(service, task):
        return False
    if task.failed_update:
        return task.created_at >= status.started_at
    if not ended_unasked(task) or task.restarts or task.created_at < status.started_at:
        return False
    return ended_early(service, task)


def ended_early(service: Service, ended: Task) -> bool:
    """Whether the task ended within the monitored time."""
    return not ended.detail.ran or ended.detail.ran < service.update_settings.monitor


def _fills_slot(ended: Task) -> bool:
    """Whether it ended unasked, and its slot was not given up since."""
    return ended_unasked(ended) and ended.desired_state <= TaskState.SHUTDOWN


def shown_by(service: Service, tasks: tuple[Task, ...]) -> Task:
    """The task that shows how far the update of a slot is: its newest; if that is outdated and has
    ended, an earlier one that should run. A start-first update kept it beside that one.
    """
    newest = tasks[-1]
    if len(tasks) > 1 and newest.state > _RUNNING and is_outdated(service, newest):
        for task in reversed(tasks):
            if task.desired_state <= _RUNNING and task.state <= _RUNNING:
                return task
    return newest


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

    def lowest(
        self, without: Collection[int], count: int = 1, below: int | None = None
    ) -> list[tuple[int, int]]:
        """(number, slot) of the first `count` slots that are not left out and whose number is less
        than `below`, in order. The cost follows those that are found and left out.
        """
        heap = self._heap
        if heap is None:
            heap = self._heap = [number << _BITS | slot for slot, number in self.numbers.items()]
            heapq.heapify(heap)
        taken: dict[int, None] = {}
        found: list[tuple[int, int]] = []
        while heap and len(found) < count:
            number, slot = heap[0] >> _BITS, heap[0] & _SLOT
            if below is not None and number >= below:
                break
            key = heapq.heappop(heap)
            if self.numbers.get(slot) == number and key not in taken:
                taken[key] = None
                if slot not in without:
                    found.append((number, slot))
        for key in taken:
            heapq.heappush(heap, key)
        return found


class Rollout:
    """The slots of a service by what its update has done with them, as one task of each shows, see
    `shown_by`.
    """

    __slots__ = (
        "_current",
        "_failed",
        "_in_flight",
        "_outdated",
        "_recent",
        "_service",
        "_takes_ended",
        "ended",
        "limited",
        "refusing",
    )

    def __init__(self, service: Service, slots: Mapping[int, tuple[Task, ...]]) -> None:
        self._service = service
        self._current: dict[int, bool] = {}
        """Whether tasks of a spec version are current."""
        self._outdated = Ranking()
        """By whether their task runs (0 or 1): slots whose newest task is outdated and desired, and
        those in `ended`.
        """
        self.ended: dict[int, None] = {}
        """Slots whose newest task is outdated and ended unasked: the update replaces those that
        the restart policy does not. Those of a global service are replaced at once.
        """
        self._takes_ended = not service.spec.mode.per_node
        self._in_flight: dict[int, None] = {}
        """Slots whose outdated task is being stopped, or whose first new one does not serve yet."""
        self._recent = Ranking()
        """Slots whose first new task serves, by the time it began to run, the last first."""
        self._failed: dict[int, None] = {}
        """Slots that count as failed."""
        self.limited: dict[int, None] = {}
        """Slots whose task has yet to get new limits."""
        self.refusing: dict[int, None] = {}
        """Outdated slots whose task is outdated for its limits alone."""
        self._begin(slots)

    def _begin(self, slots: Mapping[int, tuple[Task, ...]]) -> None:
        """Put all slots, with few calls for outdated ones: there may be a hundred thousand."""
        current, outdated, service = self._current, self._outdated.numbers, self._service
        for slot, tasks in slots.items():
            newest = tasks[-1]
            if len(tasks) > 1 and newest.state > _RUNNING:
                newest = shown_by(service, tasks)
            version = newest.spec_version
            if version not in current:
                current[version] = service.is_current(version)
            is_current = current[version]
            if newest.state > _RUNNING or (
                is_current and service.in_place_version and refuses_limits(service, newest)
            ):
                self.put(slot, newest)
            elif is_current or newest.desired_state > _RUNNING:
                self._put_begun(slot, newest, is_current=is_current)
            else:
                outdated[slot] = newest.state is _RUNNING

    def shown(self, tasks: tuple[Task, ...]) -> Task:
        """The one of a slot's tasks that shows how far its update is."""
        return shown_by(self._service, tasks)

    def put(self, slot: int, newest: Task) -> None:
        """Set the task that shows how far the update of the slot is."""
        version = newest.spec_version
        current = self._current.get(version)
        if current is None:
            current = self._current[version] = self._service.is_current(version)
        refuses = current and refuses_limits(self._service, newest)
        current = current and not refuses
        if not current and newest.desired_state <= _RUNNING and newest.state <= _RUNNING:
            self._drop_begun(slot)
            self._outdated.put(slot, int(newest.state is _RUNNING))
            if refuses:
                self.refusing[slot] = None
        elif not current and self._takes_ended and _fills_slot(newest):
            self._drop_begun(slot)
            self._outdated.put(slot, 0)
            self.ended[slot] = None
        else:
            self._outdated.drop(slot)
            self._put_begun(slot, newest, is_current=current)

    def _put_begun(self, slot: int, newest: Task, *, is_current: bool) -> None:
        self._drop_begun(slot)
        lives = newest.desired_state <= _RUNNING
        if is_current and lives and awaits_in_place(self._service, newest):
            self.limited[slot] = None
        if not is_current:
            if newest.desired_state is TaskState.SHUTDOWN and newest.state <= _RUNNING:
                self._in_flight[slot] = None
        elif is_failure(self._service, newest):
            self._failed[slot] = None
        elif not is_first(self._service, newest) or not lives:
            return
        elif serves(newest):
            self._recent.put(slot, -newest.status_at)
        elif newest.state <= _RUNNING:
            self._in_flight[slot] = None

    def _drop_begun(self, slot: int) -> None:
        self.limited.pop(slot, None)
        self.refusing.pop(slot, None)
        self.ended.pop(slot, None)
        self._in_flight.pop(slot, None)
        self._failed.pop(slot, None)
        self._recent.drop(slot)

    def drop(self, slot: int) -> None:
        """Remove the slot: it has no task any more."""
        self._outdated.drop(slot)
        self._drop_begun(slot)

    def next_outdated(self, without: Collection[int], count: int) -> list[tuple[int, int]]:
        """Of at most `count` slots to update next, whether their task runs (0 or 1), and the slot:
        the lowest of those whose task does not run, then of all.
        """
        return self._outdated.lowest(without, count)

    def in_flight(self, without: Collection[int]) -> int:
        """In how many slots the outdated task is being stopped, or the first new one does not serve
        yet.
        """
        return len(self._in_flight) - sum(slot in self._in_flight for slot in without)

    def slots_in_flight(self) -> Collection[int]:
        """Those slots."""
        return self._in_flight

    def failed(self, without: Collection[int]) -> tuple[int, int | None]:
        """How many slots count as failed, and one of them."""
        count = len(self._failed) - sum(slot in self._failed for slot in without)
        return count, next((slot for slot in self._failed if slot not in without), None)

    def running_since(self, without: Collection[int], since: Instant, most: int) -> list[Instant]:
        """When those of the first new tasks that serve began to run that did so after `since`, the
        last first: at most so many.
        """
        found = self._recent.lowest(without, most, below=-since)
        return [Instant(-number) for number, _ in found]

    def last_running(self, without: Collection[int]) -> Instant:
        """When the last of the first new tasks that serve began to run; 0 if none does."""
        found = self._recent.lowest(without)
        return Instant(-found[0][0]) if found else Instant(0)


def updated_as(service: Service) -> tuple[object, ...]:
    """What `Rollout` depends on."""
    status = service.update_status
    return (
        service.template_version,
        service.same_template,
        service.in_place_version,
        service.is_updating,
        status and status.started_at,
        service.update_settings.monitor,
    )
