"""Whether an ended task is replaced. PURE.

Swarm's restart policy, derived from stored tasks alone: `Task.restarts` counts the tasks of a slot
that ended before this one, and `Task.restarted_at` says when they began. The answer depends on when
the task ended, not on the current time, so it never changes.
"""

from collections.abc import Iterable

from pyswarm_core.clock import MILLISECOND, Instant, after
from pyswarm_core.limits import RESTART_BACKOFF_RESET, RESTART_PERIOD_MIN, RESTARTS_REMEMBERED
from pyswarm_core.objects import Service, Task, ended_unasked
from pyswarm_core.specs import RestartCondition, RestartPolicy
from pyswarm_core.states import TaskState, ends_by_itself

DOUBLED_MIN = 100 * MILLISECOND
"""A restart delay of at least this that doubles to RESTART_PERIOD_MIN or more is not subject to it:
four tasks in a row are replaced sooner. Docker's first delay.
"""
_DOUBLINGS_MAX = 62
"""A delay of one nanosecond is longer than any maximum then."""


def ended_by_itself(task: Task) -> bool:
    """Whether it ended by itself, also after it was told to end."""
    return ends_by_itself(task.state)


def is_restart(service: Service, ended: Task) -> bool:
    """Whether the restart policy decides what follows the task: it ended unasked, and its
    service was not started since.
    """
    return ended_unasked(ended) and ended.status_at >= service.started_at


def refusal(policy: RestartPolicy, ended: Task, slot_tasks: Iterable[Task]) -> str:
    """Why the policy does not replace a task that ended by itself; empty if it does."""
    if policy.condition is RestartCondition.NONE:
        return "restart condition is none"
    if policy.condition is RestartCondition.ON_FAILURE and ended.state is TaskState.COMPLETE:
        return "it completed, and the restart condition is on-failure"
    if policy.max_attempts <= 0:
        return ""
    if policy.window <= 0:
        if ended.restarts < policy.max_attempts:
            return ""
        return f"all {policy.max_attempts} restart attempts are used up"
    used = _restarts_since(Instant(ended.status_at - policy.window), ended, slot_tasks)
    if used < policy.max_attempts:
        return ""
    return (
        f"{used} restarts within {policy.window / 1e9:g} s,"
        f" and the policy allows {policy.max_attempts}"
    )


def restarts_remembered(
    policy: RestartPolicy, ended: Task, slot_tasks: Iterable[Task], now: Instant
) -> tuple[Instant, ...]:
    """When restarts began, as stored with the replacement of an ended task, its own (now) included:
    at most as many as the policy allows within its window.
    """
    if policy.window <= 0 or policy.max_attempts <= 0:
        return ()
    times = (*_restart_times(ended, slot_tasks), now)
    start = now - policy.window
    kept = min(policy.max_attempts, RESTARTS_REMEMBERED)
    return tuple([at for at in times[-kept:] if at > start])


def _restarts_since(start: Instant, ended: Task, slot_tasks: Iterable[Task]) -> int:
    return sum(at > start for at in _restart_times(ended, slot_tasks))


def _restart_times(ended: Task, slot_tasks: Iterable[Task]) -> Iterable[Instant]:
    """When the restarts before the task began, as far as that is known."""
    if ended.restarted_at:
        return ended.restarted_at
    # Stored by an older version, or before the policy had a window: derived from the history.
    began: dict[int, Instant] = {}
    for task in slot_tasks:
        if 1 <= task.restarts <= ended.restarts and task.created_at <= ended.created_at:
            began.setdefault(task.restarts, task.created_at)
    return sorted(began.values())


def delay_before(policy: RestartPolicy, consecutive: int) -> int:
    """The restart delay before the task that so many restarts in a row led to. It doubles with each
    of them, up to the policy's max_delay.
    """
    if policy.max_delay <= 0:
        return policy.delay
    doublings = min(max(0, consecutive - 1), _DOUBLINGS_MAX)
    return min(policy.delay << doublings, policy.max_delay)


def consecutive_after(ended: Task) -> int:
    """The number of restarts in a row, with the one that follows this end."""
    return 1 if ended.detail.ran >= RESTART_BACKOFF_RESET else ended.consecutive_restarts + 1


def starts_at(policy: RestartPolicy, replacement: Task) -> Instant:
    """When a task that waits with desired state ready may run."""
    return after(replacement.created_at, delay_before(policy, replacement.consecutive_restarts))


def replaced_at(policy: RestartPolicy, ended: Task) -> Instant:
    """The earliest time to replace a task that ended by itself: not before its own restart delay is
    over, and with a shorter delay than RESTART_PERIOD_MIN not before it has existed that long,
    unless the delay doubles and so becomes longer.
    """
    at = starts_at(policy, ended) if ended.restarts else Instant(0)
    if policy.delay >= DOUBLED_MIN and policy.max_delay >= RESTART_PERIOD_MIN:
        return at
    if delay_before(policy, consecutive_after(ended)) < RESTART_PERIOD_MIN:
        at = max(at, after(ended.created_at, RESTART_PERIOD_MIN))
    return at
