"""A container's one task. PURE.

A container is a service of one replica, so the orchestrator of replicated services decides about
its slot. In addition, its writable layer is on one node (`Service.pinned_node`), and is lost with
that: the container is placed anew if its restart policy is `any`, otherwise when it is started. One
with `auto_remove` is removed once its task has ended for good.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from controller.brain.allocator.joining import running_task
from controller.brain.orchestrator import replicated_service, update
from controller.brain.orchestrator.plan import Plan
from controller.brain.orchestrator.restart import is_restart, refusal
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.in_place import awaits_in_place, refuses_networks
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import AUTO_REMOVE_SHOWN
from pyswarm_core.objects import Endpoint, Service, Task, Version
from pyswarm_core.specs import ContainerMode, RestartCondition
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, is_terminal


def reconcile(plan: Plan, state: State, looked_at: Iterable[int], now: Instant) -> None:
    """Plan what a container needs. `looked_at`: slots to look at, unsettled or not."""
    is_lost = has_lost_layer(state, plan.service)
    if is_lost and _runs_anew(plan.service):
        plan.report(EventKind.LAYER_LOST, "its node was removed, and its writable layer with it")
        plan.record(replace(plan.service, pinned_node=NodeId("")))
    task = running_task(state, plan.service)
    if task is not None and _is_stuck(plan.service, task):
        update.pause(plan, f"due to networks of task {task.id}: {task.detail.in_place_error}", 0)
    replicated_service.reconcile(plan, state, looked_at, now)
    if is_lost and plan.service.pinned_node:
        plan.vacancies.clear()  # until its users start it
    if task is not None and awaits_in_place(plan.service, task):
        plan.joining = task
    if _removes_itself(plan, state, is_lost=is_lost):
        plan.record(replace(removed(plan.service, now), updated_by=None))
        plan.cut(0)  # the next decision ends the removal, or waits for its time


def _is_stuck(service: Service, task: Task) -> bool:
    """Whether the update cannot go on: the task's node refused its networks."""
    goes_on = service.is_updating and not service.is_paused
    return goes_on and refuses_networks(service, task)


def has_lost_layer(state: State, service: Service) -> bool:
    """Whether the node with the container's writable layer was removed; False for a node that
    cannot be read.
    """
    node_id = service.pinned_node
    if not node_id or node_id in state.nodes:
        return False
    return NODE.object_name(node_id) not in state.unreadable


def _runs_anew(service: Service) -> bool:
    """Whether the restart policy runs it in any case, also without its writable layer."""
    policy = service.spec.task_template.restart_policy
    return policy.condition is RestartCondition.ANY and not service.spec.stopped


def removed(service: Service, now: Instant) -> Service:
    """The service marked for removal: its name, ports and virtual addresses are free at once."""
    version = Version(index=service.version.index + 1)
    return replace(service, removing=True, version=version, updated_at=now, endpoint=Endpoint())


def _removes_itself(plan: Plan, state: State, *, is_lost: bool) -> bool:
    """Whether its task has ended, by itself or since it was stopped, and none follows; or both the
    task and the layer are lost.
    """
    service = plan.service
    if not _auto_removes(service) or plan.vacancies or plan.is_cut:
        return False
    if is_lost:
        return True
    held = [task for tasks in state.tasks_of_service(service.id).slots.values() for task in tasks]
    tasks = [plan.changed.get(task.id, task) for task in held if task.id not in plan.removed]
    if not tasks or not all(is_terminal(task.state) for task in tasks):
        return False
    if service.spec.stopped:
        return True
    last, policy = tasks[-1], service.spec.task_template.restart_policy
    return is_restart(service, last) and bool(refusal(policy, last, tasks))


def _auto_removes(service: Service) -> bool:
    mode = service.spec.mode
    return isinstance(mode, ContainerMode) and mode.auto_remove


def shown_until(service: Service, tasks: Iterable[Task]) -> Instant:
    """Until when a container that removed itself is kept for callers that wait for its exit code;
    0: it is not kept.
    """
    if not _auto_removes(service):
        return Instant(0)
    ends = [task.status_at for task in tasks if task.desired_state is not TaskState.REMOVE]
    return after(max(ends), AUTO_REMOVE_SHOWN) if ends else Instant(0)


def desired_text(service: Service) -> str:
    """Whether it should run, for people."""
    return "stopped" if service.spec.stopped else "1 desired"


def desired(state: State, service: Service) -> int:
    """How many tasks should run."""
    return replicated_service.desired(state, service)


def desired_slots(state: State, service: Service) -> None:
    """Any slots may be filled."""


def unlisted(state: State, service: Service, desired: int) -> int:
    """How many of the desired tasks wait for a node without being stored: none."""
    return 0
