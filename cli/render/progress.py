"""The lines that show a service's progress. PURE.

On a terminal `screen.Screen` redraws the lines in place; in a pipe each change is a new line.
"""

from collections.abc import Sequence

from cli.render.listing import ellipsis, one_line
from pyswarm_core.clock import SECOND
from pyswarm_core.objects import NOT_READY
from pyswarm_core.states import TaskState, UpdateState
from pyswarm_core.views import ServiceProgress, SlotProgress

SLOTS_SHOWN = 20
"""Services with more replicas have no line per slot, as in Docker."""
_BAR = 50
_VERIFY = "verify: Waiting"
_STEPS = (
    TaskState.NEW,
    TaskState.PENDING,
    TaskState.ASSIGNED,
    TaskState.ACCEPTED,
    TaskState.PREPARING,
    TaskState.READY,
    TaskState.STARTING,
    TaskState.RUNNING,
)
_WAITING = (TaskState.NEW, TaskState.PENDING)


class Places:
    """The places of a service's slots among its lines, from 1 on, whatever the slots' numbers.

    A slot keeps its place while the service is watched; the places are given anew once surplus
    slots, which a smaller number of replicas left, are gone.
    """

    def __init__(self) -> None:
        self._of_slot: dict[int, int] = {}

    def of(self, progress: ServiceProgress) -> list[tuple[int, SlotProgress]]:
        """The slots with places up to the number of desired tasks, in order."""
        if len(progress.slots) <= progress.desired < len(self._of_slot):
            self._of_slot.clear()
        for slot in sorted(progress.slots, key=lambda slot: slot.slot):
            self._of_slot.setdefault(slot.slot, len(self._of_slot) + 1)
        placed = ((self._of_slot[slot.slot], slot) for slot in progress.slots)
        return sorted((one for one in placed if one[0] <= progress.desired), key=lambda one: one[0])


def lines(
    progress: ServiceProgress, *, removing: bool = False, places: Places | None = None
) -> list[str]:
    """The lines of one service on a terminal. `places` are those of the lines before."""
    if removing:
        return [removal(progress)]
    shown = [*rollback(progress), overall(progress)]
    if progress.desired <= SLOTS_SHOWN:
        shown += _slot_lines(progress, places or Places())
    else:
        shown += [bar(progress), *reasons(progress.slots)]
    return shown + stability(progress)


def changes(progress: ServiceProgress, *, removing: bool = False) -> list[str]:
    """The lines of one service for a pipe; the caller leaves out those printed before."""
    if removing:
        return [removal(progress)]
    return [
        *rollback(progress),
        overall(progress),
        *reasons(progress.slots),
        *stability(progress),
    ]


def rollback(progress: ServiceProgress) -> list[str]:
    """`rollback: update rolled back due to failure or early termination of task …`."""
    goes_on = progress.update_state == UpdateState.ROLLBACK_STARTED
    return [f"rollback: {one_line(progress.update_message)}"] if goes_on else []


def stability(progress: ServiceProgress) -> list[str]:
    """`verify: Waiting 5 seconds to verify that tasks are stable...`."""
    if progress.stable_in <= 0:
        return []
    seconds = -(-progress.stable_in // SECOND)
    noun = "second" if seconds == 1 else "seconds"
    return [f"{_VERIFY} {seconds} {noun} to verify that tasks are stable..."]


def key_of(line: str) -> str:
    """What makes a line a new one in a pipe: the time that is left does not."""
    return _VERIFY if line.startswith(_VERIFY) else line


def bar(progress: ServiceProgress) -> str:
    """One bar for all tasks."""
    reached = progress.updated + progress.completed
    return _filled(reached * _BAR // max(progress.desired, 1))


def overall(progress: ServiceProgress) -> str:
    """`overall progress: 3 out of 5 tasks`; completed tasks count."""
    reached = progress.updated + progress.completed
    extra = progress.alive - progress.updated
    notes = [f"{progress.completed} completed"] if progress.completed else []
    if extra > 0 and reached == progress.desired:
        notes.append(f"{extra} more to end")
    more = f" ({', '.join(notes)})" if notes else ""
    is_rollback = progress.update_state == UpdateState.ROLLBACK_STARTED
    what = "rolling back update: " if is_rollback else ""
    return f"overall progress: {what}{reached} out of {progress.desired} tasks{more}"


def verdict(progress: ServiceProgress, name: str) -> str:
    """The last line about a service that has converged."""
    done = progress.completed and progress.completed == progress.desired
    return f"verify: Service {name} {'completed' if done else 'converged'}"


def removal(progress: ServiceProgress) -> str:
    """`removing: 3 tasks left`."""
    noun = "task" if progress.alive == 1 else "tasks"
    return f"removing: {progress.alive} {noun} left"


def reasons(slots: Sequence[SlotProgress]) -> list[str]:
    """Why slots do not run: each reason with the number of its slots."""
    counts: dict[str, int] = {}
    for slot in slots:
        reason = _reason(slot)
        if reason:
            counts[reason] = counts.get(reason, 0) + 1
    return [
        f"{number} {'task' if number == 1 else 'tasks'}: {reason}"
        for reason, number in counts.items()
    ]


def _reason(slot: SlotProgress) -> str:
    if slot.state is TaskState.RUNNING:
        return one_line(slot.message) if slot.message.startswith(NOT_READY) else ""
    if slot.state in _WAITING and slot.message:
        return one_line(slot.message)  # the error is that of the slot's previous task
    return one_line(slot.error)


def _slot_lines(progress: ServiceProgress, places: Places) -> list[str]:
    """A line per slot, which names its place, or its node if it is that of a node."""
    if not progress.per_node:
        return [
            _slot_line(f"{place}/{progress.desired}", slot) for place, slot in places.of(progress)
        ]
    named = sorted(
        (one_line(slot.node) or str(slot.slot), slot.slot, slot) for slot in progress.slots
    )
    width = max((len(name) for name, _, _ in named), default=0)
    return [_slot_line(f"{name:<{width}}", slot) for name, _, slot in named[:SLOTS_SHOWN]]


def _slot_line(place: str, slot: SlotProgress) -> str:
    reason = _reason(slot)
    state = slot.state.word
    if reason:
        return f"{place}: {state:<9} {ellipsis(reason, 100)}"
    return f"{place}: {state:<9} {_bar(slot.state)}"


def _bar(state: TaskState) -> str:
    step = _STEPS.index(state) + 1 if state in _STEPS else len(_STEPS)
    return _filled(step * _BAR // len(_STEPS))


def _filled(filled: int) -> str:
    arrow = ">" if filled else ""
    return f"[{'=' * (filled - len(arrow))}{arrow}{' ' * (_BAR - filled)}]"
