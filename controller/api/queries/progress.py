"""The progress of a service towards its spec. PURE.

Converged: as many tasks as desired run on the newest template, or have completed and are not
restarted, and no other task remains. A service that is being removed converges to no tasks and is
then gone. Tasks on a down host do not count: they end when the host returns. A task that follows
one that ended since the last change counts once it has run for the update's monitored time, so that
a command that fails repeatedly never counts as running.

While an update or a rollback goes on, the service has not converged. The outdated tasks that a
global service keeps on paused nodes count. A task with a readiness check counts once it is ready.

Filled: the same with tasks of any template. A service whose update is paused comes no further.

Failed: a slot will not run unless the user changes something. Its newest task ended and the restart
policy does not replace it, or its tasks have ended FAILURES_OF_A_WAIT times since the last change,
less often if the restart delay is long. A task that ended counts VERDICT_AFTER later if the update
pauses or rolls back because of it. A paused update is no failure of this kind: the update's state
shows it.
"""

from collections.abc import Sequence
from heapq import nsmallest

from controller.api.queries.views import desired_slots, desired_tasks
from controller.brain.dependencies.conditions import unmet
from controller.brain.orchestrator.restart import is_restart, refusal
from controller.brain.slices import Slices, WatchResult, finish
from pyswarm_core.clock import NEVER, SECOND, Instant, after
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.dependents import awaits, is_ending
from pyswarm_core.indexes.in_place import awaits_in_place, refuses_networks
from pyswarm_core.indexes.rollout import is_outdated
from pyswarm_core.indexes.tasks import runs_as_desired
from pyswarm_core.limits import (
    FAILURES_OF_A_WAIT,
    FAILURES_WAITED_FOR,
    SLICE_TASKS,
)
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import FailureAction, RestartCondition, RestartPolicy
from pyswarm_core.stacks.limits import DEPENDENCY_MESSAGE_PERIOD
from pyswarm_core.state import State
from pyswarm_core.states import (
    Availability,
    NodeState,
    TaskState,
    UpdateState,
    ends_by_itself,
    is_terminal,
)
from pyswarm_core.views import ServiceProgress, SlotProgress

SLOTS_SHOWN = 50
_ENDED_WEIGHT = 10
"""The cost of a slot that does not run in SLICE_TASKS: its restart policy is evaluated."""
VERDICT_AFTER = SECOND
"""Time for the leader to decide about an update after one of its tasks ended; it takes less."""
_FAILED = (TaskState.FAILED, TaskState.REJECTED)
"""Such a task is its slot's newest while its replacement waits, or if there is no replacement."""


def service_progress(state: State, service_id: ServiceId, now: Instant) -> ServiceProgress:
    """The service's progress; `gone` if it does not exist. It may converge by time alone."""
    return finish(look_at_progress(state, service_id, now)).value


def look_at_progress(state: State, ref: str, now: Instant) -> Slices[WatchResult[ServiceProgress]]:
    """The same in slices of about SLICE_TASKS tasks; `ref` is the service's id."""
    service = state.services.get(ServiceId(ref))
    if service is None:
        return WatchResult(ServiceProgress(gone=True))
    tally = _Tally(state, service, now)
    slots_desired = desired_slots(state, service)
    if service.removing and service.spec.mode.is_container:
        slots_desired = (1,)  # the end of one that removed itself is shown
    slots = state.tasks_of_service(service.id).slots
    for number in list(slots):
        if tally.looked >= SLICE_TASKS:
            tally.end_slice()
            yield
        if tasks := slots.get(number):
            tally.take(tasks, is_desired=slots_desired is None or number in slots_desired)
    desired = desired_tasks(state, service) if slots_desired is None else len(slots_desired)
    return WatchResult(tally.progress(desired), tally.due)


class _Tally:
    """The parts of the service's progress found so far."""

    def __init__(self, state: State, service: Service, now: Instant) -> None:
        self.looked = 0
        """Cost of this slice, in tasks."""
        self.due = NEVER
        """When a task will have run for long enough."""
        self._state = state
        self._service = service
        self._now = now
        self._running = self._updated = self._alive = self._lost = self._completed = 0
        self._unproven = self._unready = self._kept = 0
        self._old_running = self._old_completed = 0
        self._stable_at = Instant(0)
        """When the updated tasks have run as long as they are monitored."""
        self._newest: list[Task] = []
        self._shown: list[Task] = []
        self._failures: list[str] = []
        status = service.update_status
        stage = status.state if status else UpdateState.COMPLETED
        self._goes_on = stage.is_unfinished and not stage.is_paused
        self._settings = service.update_settings
        self._is_container = service.spec.mode.is_container
        readiness = service.spec.task_template.container_spec.readiness
        self._has_readiness = bool(readiness.test)
        if awaits(service) and not is_ending(service):
            self._failures += [one.text for one in unmet(state, service) if one.failed]
            self.due = after(now, DEPENDENCY_MESSAGE_PERIOD)

    def take(self, tasks: Sequence[Task], *, is_desired: bool) -> None:
        """Count the tasks of one slot, oldest first."""
        service = self._service
        self.looked += 1 + len(tasks)
        self._newest.append(tasks[-1])
        if is_desired and tasks[-1].state is not TaskState.RUNNING:
            self.looked += _ENDED_WEIGHT
            ended = _ended(service, tasks, self._state.cluster.spec.task_history_limit)
            if ended == "":
                is_old = is_outdated(service, tasks[-1])
                self._old_completed += is_old
                self._completed += not is_old
            if ended and not self._waits_for_verdict(tasks[-1]):
                self._failures.append(ended)
        for task in tasks:
            if task.desired_state is TaskState.FROZEN:
                continue
            if not is_terminal(task.state) and not _never_started(task):
                is_lost = _is_on_lost_host(self._state, task)
                self._lost += is_lost
                self._alive += not is_lost
            if runs_as_desired(task):
                self._take_running(task, _proven_at(service, tasks, task))

    def _take_running(self, task: Task, proven_at: Instant) -> None:
        self._running += 1
        if _is_new(self._service, task):
            self._take_current(task, proven_at)
        elif not self._goes_on and self._is_on_paused_node(task):
            self._kept += 1
        elif proven_at > self._now:
            self.due = min(self.due, proven_at)
        else:
            self._old_running += 1

    def _is_on_paused_node(self, task: Task) -> bool:
        """Whether it is a global service's task that its update left on a paused node."""
        node = self._state.nodes.get(task.node_id)
        paused = node is not None and node.spec.availability is Availability.PAUSE
        return self._service.spec.mode.per_node and paused

    def _take_current(self, task: Task, proven_at: Instant) -> None:
        """Count a task that runs on the newest template."""
        if self._has_readiness and not task.detail.serving:
            self._unready += 1
        elif proven_at > self._now:
            self._unproven += 1
            self.due = min(self.due, proven_at)
        else:
            self._updated += 1
        end = after(task.status_at, self._settings.monitor) if self._goes_on else proven_at
        self._stable_at = max(self._stable_at, end)

    def _waits_for_verdict(self, task: Task) -> bool:
        """Whether the update may pause or roll back because this task just ended."""
        action = self._settings.failure_action
        if not self._goes_on or action is FailureAction.CONTINUE or not is_terminal(task.state):
            return False
        at = after(task.status_at, VERDICT_AFTER)
        if at > self._now:
            self.due = min(self.due, at)
        return at > self._now

    def end_slice(self) -> None:
        """Keep no more tasks than are shown."""
        self._shown, self._newest = _first(self._service, self._shown, self._newest), []
        self.looked = 0

    def progress(self, desired: int) -> ServiceProgress:
        """The sum."""
        self.end_slice()
        removing, alive = self._service.removing, self._alive
        status = self._service.update_status
        reached = self._updated + self._completed + self._kept
        current = self._running - self._kept
        settled = self._running == alive and not removing
        is_there = settled and current == self._updated and reached == desired
        converged = is_there and not (self._goes_on and desired)
        stable = settled and not converged and not self._unready
        stable = stable and current == self._updated + self._unproven
        stable = stable and reached + self._unproven == desired
        steady = self._updated + self._old_running + self._kept
        ended = self._completed + self._old_completed
        return ServiceProgress(
            running=self._running,
            desired=desired,
            updated=self._updated,
            converged=converged,
            slots=tuple(_slot(self._state, task) for task in self._shown),
            # The end of a container that removed itself is shown for a while.
            gone=removing and alive == 0 and (self._lost > 0 or self._is_container),
            alive=alive,
            completed=self._completed,
            failure=_told(self._failures),
            update_state=status.state.value if status else "",
            update_message=status.message if status else "",
            update_to=status.to_version if status else 0,
            stable_in=max(0, self._stable_at - self._now) if stable else 0,
            filled=settled and self._running == steady and steady + ended == desired,
            per_node=self._service.spec.mode.per_node,
        )


def _ended(service: Service, tasks: Sequence[Task], history_limit: int) -> str | None:
    """Why the slot will not run, empty if it has completed; None if its task runs or may yet run.
    `tasks` are the slot's, oldest first.
    """
    last = tasks[-1]
    is_old = is_outdated(service, last)
    if (is_old and not service.is_paused) or last.desired_state is TaskState.REMOVE:
        return None
    if ends_by_itself(last.state) and not is_restart(service, last):
        return None  # it is replaced at once
    name = service.name_of(last)
    policy = service.spec.task_template.restart_policy
    era = [task for task in tasks if is_outdated(service, task) is is_old]
    refused = refusal(policy, last, era) if ends_by_itself(last.state) else ""
    if refused:
        done = last.state is TaskState.COMPLETE and policy.condition is not RestartCondition.ANY
        return "" if done else f"{name} {_end(last)}, and it is not replaced: {refused}"
    recent = [task for task in era if _ended_since(service, task)]
    ends = last.restarts + ends_by_itself(last.state)
    enough = _enough_failures(policy)
    known = enough if history_limit < 0 else min(enough, history_limit)
    if ends < enough or len(recent) < max(1, known):
        return None
    times = "once" if ends == 1 else f"{ends} times"
    return f"{name} has ended {times}; at last it {_end(recent[-1])}"


def _enough_failures(policy: RestartPolicy) -> int:
    """FAILURES_OF_A_WAIT, or as many as the restart delay allows within FAILURES_WAITED_FOR."""
    within = FAILURES_WAITED_FOR // max(policy.delay, 1) + 1
    return min(FAILURES_OF_A_WAIT, within)


def _ended_since(service: Service, task: Task) -> bool:
    """Whether it ended by itself after the last change of the service."""
    return ends_by_itself(task.state) and task.status_at > service.updated_at


def _proven_at(service: Service, slot: Sequence[Task], task: Task) -> Instant:
    """From when on a running task counts, given the ends of its predecessors."""
    if task.restarts and any(_ended_since(service, other) for other in slot):
        return after(task.status_at, service.update_settings.monitor)
    return Instant(0)


def _end(task: Task) -> str:
    error = task.detail.error or f"exit code {task.detail.exit_code}"
    match task.state:
        case TaskState.COMPLETE:
            return "ended with exit code 0"
        case TaskState.REJECTED:
            return f"was rejected: {error}"
        case _:
            return f"failed: {error}"


def _told(failures: Sequence[str]) -> str:
    more = len(failures) - 1
    noun = "task" if more == 1 else "tasks"
    return failures[0] + (f" (and {more} more such {noun})" if more > 0 else "") if failures else ""


def _never_started(task: Task) -> bool:
    """Ended by the controller before it had a node."""
    return not task.node_id and task.desired_state > TaskState.RUNNING


def _is_on_lost_host(state: State, task: Task) -> bool:
    """Its desired state is shutdown or remove, and its host cannot report whether it ended."""
    node = state.nodes.get(task.node_id)
    gone = node is not None and node.status.state is NodeState.DOWN
    return gone and task.desired_state > TaskState.RUNNING


def _first(service: Service, shown: list[Task], newest: list[Task]) -> list[Task]:
    """The tasks of both to show: at most SLOTS_SHOWN, first those that do not run."""
    unfinished = [
        task
        for task in newest
        if task.desired_state <= TaskState.RUNNING
        or not is_terminal(task.state)
        or (task.state in _FAILED and task.desired_state is TaskState.SHUTDOWN)
    ]
    return nsmallest(
        SLOTS_SHOWN, [*shown, *unfinished], key=lambda task: (_done(service, task), task.slot)
    )


def _done(service: Service, task: Task) -> bool:
    return runs_as_desired(task) and _is_new(service, task)


def _is_new(service: Service, task: Task) -> bool:
    """Whether it has the service's template and limits, and a container's networks."""
    if awaits_in_place(service, task) or refuses_networks(service, task):
        return False
    return not is_outdated(service, task)


def _slot(state: State, task: Task) -> SlotProgress:
    node = state.nodes.get(task.node_id)
    return SlotProgress(
        slot=task.slot,
        node=node.description.hostname if node else "",
        state=task.state,
        message=task.detail.message,
        error=task.detail.error or _last_error(state, task),
    )


def _last_error(state: State, task: Task) -> str:
    """Why the task's predecessor in the slot ended, while the task itself does not run yet."""
    if task.state is TaskState.RUNNING:
        return ""
    tasks = state.tasks_of_service(task.service_id).slots.get(task.slot, ())
    earlier = [other for other in tasks if other.id != task.id]
    return earlier[-1].detail.error if earlier else ""
