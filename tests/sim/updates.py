"""Rules about rolling updates and rollbacks, derived anew from what decisions write.

The product derives the progress of an update from stored tasks, trimmed histories and all. Here one
memory follows every leader's decisions, so that the two have nothing in common but the specs.
"""

from collections.abc import Callable, Iterator

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Decision
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.in_place import refuses_limits, refuses_networks
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import (
    FailureAction,
    ServiceSpec,
    UpdateOrder,
)
from pyswarm_core.state import State
from pyswarm_core.states import (
    UPDATE_TRANSITIONS,
    Availability,
    NodeState,
    TaskState,
    UpdateState,
    ends_by_itself,
)
from tests.sim.dependencies import follows
from tests.sim.followed import Rollout, Slot, key_of
from tests.sim.marks import Marks
from tests.sim.placement import Problem, could_take, is_on_paused_node, occupies
from tests.sim.rollout_states import (
    PAUSED,
    ROLLING,
    is_beside_failed,
    is_new,
    is_paused,
    is_rolling,
    lasts,
    may_stay,
    serves,
    settings,
    should_run,
)
from tests.sim.rules import Rule
from tests.sim.specs import brought_forward, given_up, is_alike, rolled_back
from tests.sim.stops import Stops

_U = UpdateState
BY_DECISION = {
    (_U.UPDATING, _U.PAUSED),
    (_U.UPDATING, _U.COMPLETED),
    (_U.UPDATING, _U.ROLLBACK_STARTED),
    (_U.ROLLBACK_STARTED, _U.ROLLBACK_PAUSED),
    (_U.ROLLBACK_STARTED, _U.ROLLBACK_COMPLETED),
    (_U.COMPLETED, _U.UPDATING),  # the node of an outdated task is no longer paused
    (_U.ROLLBACK_COMPLETED, _U.UPDATING),
}
"""The steps that the system takes; all others are its users'."""
NEVER = 600 * SECOND
"""A new task that runs for so long and has not served may have failed."""
REACTS = 3 * SECOND
"""After the failure that is too much, an update has paused or is rolled back."""


class Updates:
    """The memory, and the rules."""

    def __init__(self, marks: Marks, returned: Callable[[ServiceSpec], None], stops: Stops) -> None:
        """`returned`: told the specs that automatic rollbacks made."""
        self._stops = stops
        self._marks = marks
        self._returned = returned
        self._rollouts: dict[ServiceId, Rollout] = {}
        self.waited = set[ServiceId]()
        """Services of which a new task found no node at once; a drill forgets them."""

    def problems(self, state: State, decision: Decision, now: Instant) -> Iterator[Problem]:
        """What is wrong with a decision."""
        written = {service.id: service for service in decision.writes.of(SERVICE)}
        touched = {task.service_id for task in decision.writes.tasks} | written.keys()
        for service_id, old in state.services.items():
            new = written.get(service_id, old)
            if follows(old, new):
                continue
            if brought_forward(old, new):
                self._marks.hit("update of a secret continued by another leader")
                continue
            if new is not old:
                yield from self._moved(old, new)
            if new.spec_version != old.spec_version:
                yield from rolled_back(old, new)
                self._returned(new.spec)
            if old.removing or new.update_status is None:
                continue
            self._look(state, old, now)
            if service_id in touched:
                yield from self._service(state, decision, old, new, now)
                self._see_waiting(decision, new)
            yield from self._too_many(state, old, new, now)
        yield from _needless(state, decision, written)

    # What is seen

    def _look(self, state: State, service: Service, now: Instant) -> None:
        """Remember what the tasks show before the decision."""
        status = service.update_status
        if status is None or status.state not in ROLLING:
            return
        rollout = self._rollouts.get(service.id)
        if rollout is None or rollout.key != key_of(status):
            rollout = self._rollouts[service.id] = Rollout(key_of(status))
        for number, tasks in state.tasks_of_service(service.id).slots.items():
            for task in tasks:
                if is_new(service, task) and task.created_at >= status.started_at:
                    self._see(service, rollout.slot(number), task)
                    late = task.state is TaskState.RUNNING and task.status_at + NEVER <= now
                    rollout.slot(number).may_have_failed |= late and not serves(task)

    def _see(self, service: Service, slot: Slot, task: Task) -> None:
        slot.first = slot.first or task.id
        if serves(task):
            slot.proven = True
        told = task.id in self._stops.told
        slot.told |= told and task.id == slot.first
        told &= task.desired_state > TaskState.RUNNING  # a deposed leader has not seen it yet
        if ends_by_itself(task.state) and task.desired_state is not TaskState.REMOVE and not told:
            early = task.detail.ran < settings(service).monitor or not task.detail.ran
            slot.may_have_failed |= early and not task.detail.told_to_end
            slot.ended |= task.id == slot.first and not slot.told
            by_itself = task.id == slot.first and not task.restarts and not slot.told
            slot.failed |= early and by_itself and task.id not in self._stops.asked

    def _see_waiting(self, decision: Decision, service: Service) -> None:
        for task in decision.writes.tasks:
            waits = should_run(task) and task.state < TaskState.ASSIGNED
            if task.service_id == service.id and waits and is_new(service, task):
                self.waited.add(service.id)

    # What follows

    def _moved(self, old: Service, new: Service) -> Iterator[Problem]:
        name, before, after = new.spec.name, old.update_status, new.update_status
        if before == after:
            return
        if before is None or after is None:
            yield Rule.UPDATE_STATES, f"a decision begins or forgets the update of {name}"
        elif before.state is not after.state:
            step = (before.state, after.state)
            if step not in BY_DECISION or step not in UPDATE_TRANSITIONS:
                text = f"the update of {name} moves from {before.state} to {after.state}"
                yield Rule.UPDATE_STATES, text
            self._marks.hit(f"update: {before.state} to {after.state}")

    def _service(
        self, state: State, decision: Decision, old: Service, new: Service, now: Instant
    ) -> Iterator[Problem]:
        after = _slots_after(state, decision, new.id)
        known, status = self._rollouts.get(new.id), new.update_status
        if known is None or status is None or known.key != key_of(status):
            known = Rollout((0, 0))
        begun = [
            n
            for n, tasks in after.items()
            if _begins(state, new, n, tasks, ended=known.slot(n).ended)
            or self._begins_ended(state, new, n, tasks)
        ]
        name = new.spec.name
        if begun and not is_rolling(new):
            assert status is not None
            yield Rule.PAUSED, f"slots {begun} of {name} are updated, which is {status.state}"
        if begun:
            rollout = self._rollouts.get(new.id)
            if rollout is None or new.update_status is None:
                return
            if rollout.key != key_of(new.update_status):
                rollout = self._rollouts[new.id] = Rollout(key_of(new.update_status))
            for number in begun:
                rollout.slot(number).stopped = True
            yield from _on_paused(state, new, begun)
            yield from _in_flight(state, decision, new, rollout, after, begun, now)
        yield from completed(state, old, new, after, now, known=known)
        yield from start_first(state, old, new, decision)

    def _begins_ended(self, state: State, new: Service, number: int, tasks: list[Task]) -> bool:
        """Whether the decision updates a slot whose old task had ended by itself, for good, before
        the update began; in a paused update, however and whenever it ended.
        """
        before = state.tasks_of_service(new.id).slots.get(number, ())
        before = tuple(task for task in before if task.desired_state is not TaskState.REMOVE)
        status = new.update_status
        if not before or status is None or any(is_new(new, t) for t in before):
            return False
        last = before[-1]
        made = [t for t in tasks if t.id not in state.tasks and is_new(new, t)]
        if all(t.spec_version == last.spec_version for t in made):  # the last one refused limits
            return False
        if last.id in self._stops.before_start.get(new.id, ()) or any(map(should_run, before)):
            return False
        if last.created_at < new.started_at:  # a start that is not stored yet
            return False
        ended = ends_by_itself(last.state) and new.made_from(last.spec_version) is not None
        paused = is_paused(new) and may_stay(state, new, last)
        taken = is_rolling(new) and not new.spec.mode.per_node and given_up(new, last)
        return ended and (paused or (taken and last.status_at < status.started_at))

    def _too_many(
        self, state: State, old: Service, new: Service, now: Instant
    ) -> Iterator[Problem]:
        """Whether an update pauses, or is rolled back, if and only if too many slots failed."""
        status, rollout = old.update_status, self._rollouts.get(old.id)
        if status is None or rollout is None or status.state not in ROLLING:
            return
        tasks = state.tasks_of_service(old.id)
        is_refused = any(refuses_networks(old, task) for task in tasks)  # it pauses for that, too
        if rollout.key != key_of(status) or new.update_status is None or is_refused:
            return
        # Neither a slot that was given up counts, nor a failure that only a deposed leader knows.
        left = tasks.slots
        least = sum(
            slot.failed
            for number, slot in rollout.slots.items()
            if number in left and not any(t.id == slot.first and lasts(t) for t in left[number])
        )
        most = sum(slot.may_have_failed for slot in rollout.slots.values())
        config = settings(old)
        slots = max(status.slots, 1)
        stops = new.update_status.state in (*PAUSED, _U.ROLLBACK_STARTED) and (
            new.update_status.state is not status.state
        )
        if stops and most / slots <= config.max_failure_ratio:
            yield (
                Rule.FAILURES,
                f"{new.spec.name} is {new.update_status.state}, and at most {most} of {slots} slots"
                f" failed: {config.max_failure_ratio} may ({new.update_status})",
            )
        if stops or new.spec.stopped or least / slots <= config.max_failure_ratio:
            rollout.too_many_since = Instant(0)
            return
        if config.failure_action is FailureAction.CONTINUE:
            return
        if rollout.known_to != id(state):  # each leader has a state, and finds out by itself
            rollout.known_to, rollout.too_many_since = id(state), now
        rollout.too_many_since = rollout.too_many_since or now
        if now - rollout.too_many_since > REACTS:
            yield (
                Rule.FAILURES,
                f"{new.spec.name} goes on though {least} of {slots} slots failed, and"
                f" {config.max_failure_ratio} may",
            )


def _slots_after(state: State, decision: Decision, service_id: ServiceId) -> dict[int, list[Task]]:
    """The service's tasks as the decision leaves them, by slot, oldest first."""
    gone = set(decision.writes.removed_tasks)
    written = {t.id: t for t in decision.writes.tasks if t.service_id == service_id}
    slots: dict[int, list[Task]] = {}
    for task in state.tasks_of_service(service_id):
        if task.id not in gone:
            slots.setdefault(task.slot, []).append(written.pop(task.id, task))
    for task in written.values():
        slots.setdefault(task.slot, []).append(task)
    return slots


def _begins(state: State, new: Service, number: int, tasks: list[Task], *, ended: bool) -> bool:
    """Whether the decision begins to update the slot: it ends the old task for nothing but its
    template, or makes a new one beside it. If the first new task has `ended`, the update of the
    slot is over, and the old one may follow.
    """
    before = {t.id: t for t in state.tasks_of_service(new.id).slots.get(number, ())}
    has_new = any(should_run(t) and is_new(new, t) for t in before.values())
    stays = any(should_run(t) for t in tasks)
    for task in tasks:
        known = before.get(task.id)
        if is_new(new, task):
            beside = any(should_run(other) and not is_new(new, other) for other in tasks)
            if known is None and beside and not has_new and not task.restarts:
                return True
        elif (
            known is not None
            and should_run(known)
            and known.state >= TaskState.ASSIGNED
            and task.desired_state is TaskState.SHUTDOWN
            and not has_new
            and not ended
            and not stays
            and may_stay(state, new, task)
        ):
            return True
    return False


def _on_paused(state: State, service: Service, begun: list[int]) -> Iterator[Problem]:
    """A paused node gets no task, so an update leaves the task of a global service there."""
    if not service.spec.mode.per_node:
        return
    for node in state.nodes.values():
        if node.number in begun and node.spec.availability is Availability.PAUSE:
            name = f"{service.spec.name}.{node.number}"
            yield Rule.AVAILABLE, f"{name} is updated, and nothing can replace it: node is paused"


def _needless(
    state: State, decision: Decision, written: dict[ServiceId, Service]
) -> Iterator[Problem]:
    """A task of the template ends for its node or its users' sake only."""
    for task in decision.writes.tasks:
        known = state.tasks.get(task.id)
        if known is None or not should_run(known) or task.desired_state is not TaskState.SHUTDOWN:
            continue
        service = written.get(task.service_id, state.services[task.service_id])
        others = state.tasks_of_service(service.id).slots.get(task.slot, ())
        alone = sum(should_run(other) for other in others) == 1
        ended = task.state > TaskState.RUNNING
        if ended or not alone or service.removing or not may_stay(state, service, task):
            continue
        if is_alike(service, task) and not refuses_limits(service, task):
            yield Rule.KEPT, f"{task.id} of {service.spec.name} is shut down for nothing"


def _in_flight(
    state: State,
    decision: Decision,
    service: Service,
    rollout: Rollout,
    after: dict[int, list[Task]],
    begun: list[int],
    now: Instant,
) -> Iterator[Problem]:
    """New tasks that no node takes do not count, unless more of them would come."""
    config = settings(service)
    flying, waiting = dict.fromkeys(begun), dict[int, None]()
    for number, tasks in after.items():
        if number not in begun and _waits_beside(state, service, number):
            continue
        if _flies(state, service, rollout.slot(number), tasks, now):
            flying[number] = None
            left = [task for task in tasks if should_run(task)]
            if left and all(is_new(service, t) and t.state < TaskState.ASSIGNED for t in left):
                waiting[number] = None
    slots = state.tasks_of_service(service.id).slots
    idle = [
        number
        for number in begun
        if not any(
            should_run(task)
            and not is_new(service, task)
            and could_take(state, decision, service.spec, task)
            for task in slots.get(number, ())
        )
    ]
    room = config.parallelism - len(flying) + len(begun)
    if waiting and len(idle) <= max(0, room):
        flying = {number: None for number in flying if number not in waiting}
    if config.parallelism and len(flying) > config.parallelism:
        yield (
            Rule.PARALLELISM,
            f"slots {sorted(flying)} of {service.spec.name} are updated at once, {begun} from now"
            f" on; {config.parallelism} may be",
        )


def _waits_beside(state: State, service: Service, number: int) -> bool:
    """Whether a global service's new task waits for its node, and its old one runs on beside it."""
    tasks = state.tasks_of_service(service.id).slots.get(number, ())
    versions = {is_new(service, task) for task in tasks if should_run(task)}
    waits = any(
        should_run(t) and is_new(service, t) and t.state < TaskState.ASSIGNED for t in tasks
    )
    return service.spec.mode.per_node and waits and len(versions) > 1


def _flies(state: State, service: Service, slot: Slot, tasks: list[Task], now: Instant) -> bool:
    """Whether the slot is certainly in flight."""
    new = [t for t in tasks if should_run(t) and is_new(service, t)]
    if new:
        task = new[-1]
        status = service.update_status
        if status is None or task.spec_version < status.to_version:
            return False  # the update keeps it
        # One with restarts follows a task that the update keeps.
        first = slot.first in ("", task.id) and not task.restarts
        if serves(task):  # its time may be ahead of this leader's clock
            delay = settings(service).delay
            return first and delay > 0 and task.status_at + delay > now
        return first and not slot.proven
    if any(map(should_run, tasks)):
        return False
    return any(
        not is_new(service, task)
        and task.desired_state is TaskState.SHUTDOWN
        and occupies(task)
        and slot.stopped
        and not slot.ended
        and (node := state.nodes.get(task.node_id)) is not None
        and node.status.state is NodeState.READY
        and node.spec.availability is not Availability.DRAIN
        for task in tasks
    )


def completed(
    state: State,
    old: Service,
    new: Service,
    after: dict[int, list[Task]],
    now: Instant,
    *,
    known: Rollout,
) -> Iterator[Problem]:
    """A completed update has left no old task, and its new tasks have run long enough. As in
    Swarm, neither slots whose new task failed nor paused nodes of a global service hold it up.
    Users may have started what follows the failed task: then it is not a restart.
    """
    before, status = old.update_status, new.update_status
    if before is None or status is None or before.state is status.state:
        return
    if status.state.is_unfinished:
        return
    name, monitor = new.spec.name, settings(old).monitor
    if new.spec.stopped:
        yield Rule.COMPLETED, f"the update of {name} is completed, and {name} is stopped"
    for number, tasks in after.items():
        for task in filter(should_run, tasks):
            awaited = not known.slot(number).failed_before(task)
            is_kept = is_new(new, task) and task.spec_version < status.to_version
            beside = not is_new(new, task) and is_beside_failed(new, tasks)
            if is_kept or beside or is_on_paused_node(state, new, task):
                continue
            if not is_new(new, task):
                yield Rule.COMPLETED, f"the update of {name} is completed, and {task.id} is old"
            elif task.state is not TaskState.RUNNING and awaited:
                yield Rule.COMPLETED, f"the update of {name} is completed, {task.id} does not run"
            elif task.status_at + monitor > now and awaited:
                yield (
                    Rule.COMPLETED,
                    f"the update of {name} is completed before {task.id} is proven",
                )


def _is_through(service: Service, task: Task) -> bool:
    """Whether it completed, and not within the monitored time: that is a failure."""
    ran = task.detail.ran
    return task.state is TaskState.COMPLETE and ran > 0 and ran >= settings(service).monitor


def _has_failed(service: Service, task: Task) -> bool:
    """Whether the update made it, and it ended by itself."""
    status = service.update_status
    made = status is not None and task.created_at >= status.started_at
    return made and is_new(service, task) and ends_by_itself(task.state)


def start_first(state: State, old: Service, new: Service, decision: Decision) -> Iterator[Problem]:
    """With start-first, an old task that serves ends when the new one serves, or another old one
    does, or the new one cannot be placed beside it and could then be placed on the old one's node.
    """
    if settings(new).order is not UpdateOrder.START_FIRST or not is_rolling(new):
        return
    for task in decision.writes.tasks:
        known = state.tasks.get(task.id)
        if (
            known is None
            or task.service_id != new.id
            or is_new(new, task)
            or not should_run(known)
            or task.desired_state is not TaskState.SHUTDOWN
            or not serves(known)
            or not may_stay(state, new, task)
        ):
            continue
        slot = _slots_after(state, decision, new.id).get(task.slot, [])
        beside = [other for other in slot if is_new(new, other) and should_run(other)]
        waits = not beside or any(other.state < TaskState.ASSIGNED for other in beside)
        done = any(
            _is_through(new, other) if is_new(new, other) else serves(other) for other in slot
        )
        failed = not beside and any(_has_failed(new, other) for other in slot)
        if failed and not done:
            yield (
                Rule.START_FIRST,
                f"{task.id} of {new.spec.name} ends, and the new task of its slot has failed",
            )
        if waits and not done and not could_take(state, decision, new.spec, known):
            yield (
                Rule.START_FIRST,
                f"{task.id} of {new.spec.name} ends, and its node could not take the new task",
            )
        if not waits and not done and not any(map(serves, beside)):
            yield (
                Rule.START_FIRST,
                f"{task.id} of {new.spec.name} ends before the new task of its slot serves",
            )
