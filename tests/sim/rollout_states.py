"""What the rules about updates mean by new, rolling, serving: predicates over stored objects."""

from msgspec.structs import replace

from pyswarm_core.indexes.in_place import refuses_limits
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import UpdateConfig, UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.sim.placement import satisfies
from tests.sim.volumes import is_held

_U = UpdateState
ROLLING = (_U.UPDATING, _U.ROLLBACK_STARTED)
PAUSED = (_U.PAUSED, _U.ROLLBACK_PAUSED)
BACK = (_U.ROLLBACK_STARTED, _U.ROLLBACK_PAUSED, _U.ROLLBACK_COMPLETED)


def is_current(service: Service, version: int) -> bool:
    """Whether tasks made from this spec version have the service's template."""
    kept = any(one.first <= version <= one.last for one in service.same_template)
    return version >= service.template_version or kept


def is_new(service: Service, task: Task) -> bool:
    """Whether an update leaves the task alone: it has the template, and limits in force."""
    return is_current(service, task.spec_version) and not refuses_limits(service, task)


def is_rolling(service: Service) -> bool:
    """Whether an update or a rollback goes on."""
    return service.update_status is not None and service.update_status.state in ROLLING


def is_paused(service: Service) -> bool:
    """Whether one waits for its users."""
    return service.update_status is not None and service.update_status.state in PAUSED


def settings(service: Service) -> UpdateConfig:
    """What governs the update or the rollback that goes on."""
    status = service.update_status
    back = status is not None and status.state in BACK
    config = service.spec.rollback_config if back else service.spec.update_config
    if service.spec.task_template.writes_volumes:  # one task at a time has them
        return replace(config, order=UpdateOrder.STOP_FIRST)
    return config


def should_run(task: Task) -> bool:
    """Whether it has not ended and is not to end."""
    return task.desired_state <= TaskState.RUNNING and task.state <= TaskState.RUNNING


def lasts(task: Task) -> bool:
    """Whether it has not ended, as far as its leader knows."""
    return task.state <= TaskState.RUNNING and not task.failed_update


def serves(task: Task) -> bool:
    """Whether connections may be sent to it."""
    return should_run(task) and task.state is TaskState.RUNNING and task.detail.serving


def is_beside_failed(service: Service, tasks: list[Task]) -> bool:
    """Whether the slot's new task failed: with start-first the old one runs on beside it."""
    made = [task for task in tasks if is_new(service, task)]
    if settings(service).order is not UpdateOrder.START_FIRST or not made:
        return False
    return made[-1].restarts > 0 or made[-1].failed_update or not should_run(made[-1])


def may_stay(state: State, service: Service, task: Task) -> bool:
    """Whether nothing but an update takes the task from its node."""
    node = state.nodes.get(task.node_id)
    return (
        node is not None
        and node.status.state is not NodeState.DOWN
        and node.spec.availability is not Availability.DRAIN
        and satisfies(service.spec, node)
        and not service.spec.stopped
        and not is_held(state, service, task)
    )
