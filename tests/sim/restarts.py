"""Rules about restarts, derived from a decision's tasks alone."""

from collections.abc import Iterator
from itertools import takewhile

from pyswarm_core.clock import MINUTE, SECOND, Instant
from pyswarm_core.decision import Decision
from pyswarm_core.ids import TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import RestartPolicy
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, ends_by_itself
from tests.sim.placement import Problem
from tests.sim.rollout_states import is_current, is_new
from tests.sim.rules import Rule
from tests.sim.stops import Stops

LONG_RUN = 10 * MINUTE
"""After such a run the restart delay begins anew."""
SHORT_RUN = 1 * SECOND
"""With a shorter delay, a task is replaced this long after it was made, at the earliest."""


def problems(state: State, decision: Decision, now: Instant) -> Iterator[Problem]:
    """What is wrong with what the decision restarts."""
    written = {service.id: service for service in decision.writes.of(SERVICE)}
    for task in decision.writes.tasks:
        old = state.tasks.get(task.id)
        if old is not None:
            yield from _too_early(state, old, task, now)
            continue
        service = written.get(task.service_id) or state.services.get(task.service_id)
        before = None if service is None else _predecessor(state, service, task)
        if before is None:
            continue
        if not ends_by_itself(before.state) or before.detail.told_to_end:
            yield from _taken_over(before, task)
            continue
        yield from _exhausted(state, task)
        yield from _backoff(before, task)
        yield from _spinning(state, before, task)


class Windows:
    """When the tasks of slots were restarted, over all controllers' decisions: the rule about
    attempts within a window.
    """

    def __init__(self, stops: Stops) -> None:
        self._stops = stops
        self._times: dict[TaskId, tuple[tuple[Instant, RestartPolicy], ...]] = {}
        """When the restarts that led to a task were, and by which policy."""

    def problems(self, state: State, decision: Decision) -> Iterator[Problem]:
        """What is wrong with what the decision restarts."""
        written = {service.id: service for service in decision.writes.of(SERVICE)}
        for task in decision.writes.tasks:
            service = written.get(task.service_id) or state.services.get(task.service_id)
            if task.id in state.tasks or service is None:
                continue
            before = _predecessor(state, service, task)
            if before is None:
                continue
            times = self._times.get(before.id, ())
            if not ends_by_itself(before.state) or before.id in self._stops.told:
                self._times[task.id] = times
                continue
            policy = service.spec.task_template.restart_policy
            self._times[task.id] = (*times, (task.created_at, policy))
            if not policy.max_attempts or not policy.window:
                continue
            used = _used(times, policy, before.status_at)
            if used >= policy.max_attempts:
                yield (
                    Rule.RESTART_ATTEMPTS,
                    f"{task.id} is restarted after {used} restarts within the window: {policy}",
                )


def _used(
    times: tuple[tuple[Instant, RestartPolicy], ...], policy: RestartPolicy, ended_at: Instant
) -> int:
    """How many restarts by this policy were within its window when a task ended."""
    alike = takewhile(lambda one: one[1] == policy, reversed(times))
    return sum(at > ended_at - policy.window for at, _ in alike)


def delay_of(policy: RestartPolicy, restarts: int) -> int:
    """The delay before a task that was restarted so often in a row."""
    if not policy.max_delay or restarts <= 1:
        return policy.delay
    delay = policy.delay
    for _ in range(restarts - 1):
        delay = min(2 * delay, policy.max_delay)
    return max(delay, policy.delay)


def _predecessor(state: State, service: Service, task: Task) -> Task | None:
    """The task that this one follows in its slot: the last before it that is as new as it is. Where
    an update made a task beside it, or failed and is rolled back, the other one is not followed.
    """
    if not task.restarts:
        return None
    tasks = state.tasks_of_service(task.service_id).slots.get(task.slot, ())
    new = is_new(service, task)
    alike = [t for t in tasks if is_new(service, t) is new]
    alike = [t for t in alike if t.desired_state not in (TaskState.REMOVE, TaskState.FROZEN)]
    return alike[-1] if alike else None


def _too_early(state: State, old: Task, new: Task, now: Instant) -> Iterator[Problem]:
    service = state.services.get(new.service_id)
    ready, running = TaskState.READY, TaskState.RUNNING
    if service is None or (old.desired_state, new.desired_state) != (ready, running):
        return
    delay = delay_of(service.spec.task_template.restart_policy, old.consecutive_restarts)
    early = old.created_at + delay - now
    if early > 0:
        yield Rule.RESTART_DELAY, f"{new.id} may start {early / SECOND:.3f} s early"


def _taken_over(before: Task, task: Task) -> Iterator[Problem]:
    """What replaces a task that the system ended is no restart: the counts stay."""
    if (task.restarts, task.consecutive_restarts) != (before.restarts, before.consecutive_restarts):
        yield (
            Rule.BACKOFF,
            f"{task.id} is restart {task.restarts}, {task.consecutive_restarts} in a row, and"
            f" follows one that did not end by itself: {before}",
        )


def _backoff(before: Task, task: Task) -> Iterator[Problem]:
    expected = 1 if before.detail.ran >= LONG_RUN else before.consecutive_restarts + 1
    if task.consecutive_restarts != expected:
        yield (
            Rule.BACKOFF,
            f"{task.id} is restart {task.consecutive_restarts} in a row, not {expected}: {before}",
        )


def _spinning(state: State, before: Task, task: Task) -> Iterator[Problem]:
    service = state.services.get(task.service_id)
    if service is None:
        return
    delay = delay_of(service.spec.task_template.restart_policy, task.consecutive_restarts)
    if delay < SHORT_RUN and task.created_at < before.created_at + SHORT_RUN:
        early = (before.created_at + SHORT_RUN - task.created_at) / SECOND
        if before.created_at <= task.created_at:  # otherwise another leader's clock made it
            yield Rule.SPINNING, f"{task.id} replaces {before.id} {early:.3f} s early: {before}"


def _exhausted(state: State, task: Task) -> Iterator[Problem]:
    service = state.services.get(task.service_id)
    if service is None or not is_current(service, task.spec_version):
        return
    policy = service.spec.task_template.restart_policy
    if policy.max_attempts and not policy.window and task.restarts > policy.max_attempts:
        yield (
            Rule.RESTART_ATTEMPTS,
            f"{task.id} is attempt {task.restarts}, the policy allows {policy.max_attempts}",
        )
