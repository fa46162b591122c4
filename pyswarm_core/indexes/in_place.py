"""Whether a task has what agents change in running containers: the limits of its service, and the
networks of a container. PURE.
"""

from pyswarm_core.objects import Service, Task
from pyswarm_core.states import TaskState


def awaits_in_place(service: Service, task: Task) -> bool:
    """Whether the agent of a task of the current template has yet to change its limits."""
    version = service.in_place_version
    if not TaskState.ASSIGNED <= task.state <= TaskState.RUNNING:
        return False  # its agent makes it with the new ones, or it has ended
    return task.spec_version < version and task.detail.in_place_version < version


def refuses_limits(service: Service, task: Task) -> bool:
    """Whether the limits of a task of the current template cannot be changed: a task with the new
    ones has to replace it.
    """
    return _refused(service, task) and not task.detail.networks_refused


def refuses_networks(service: Service, task: Task) -> bool:
    """Whether a container's task could not join the networks of its service. It stays as it is: a
    network that its node cannot carry must not end it.
    """
    return _refused(service, task) and task.detail.networks_refused


def _refused(service: Service, task: Task) -> bool:
    version, detail = service.in_place_version, task.detail
    return bool(task.spec_version < version <= detail.in_place_version and detail.in_place_error)
