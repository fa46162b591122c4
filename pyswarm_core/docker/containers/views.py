"""Containers as `docker ps` shows them. PURE.

A service of mode `container` is one container with the service's id and name, which stays over stop
and start; its newest task says what it does. Each task of another service is a container with the
task's id and the name SERVICE.SLOT.TASK, as on a node of Docker Swarm.
"""

import shlex
from enum import StrEnum

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.objects import HealthState, Service, Task
from pyswarm_core.specs import ContainerSpec, PortConfig, PublishMode
from pyswarm_core.states import TaskState, is_terminal
from pyswarm_core.volumes.mounts import Mount

DEFAULT_NETWORK = "bridge"
"""The network of a container that names none."""


SIZE_UNKNOWN = -1


class ContainerState(StrEnum):
    """The state of a container, in Docker's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"
    """Its host is lost."""

    @property
    def is_shown(self) -> bool:
        """Whether `ps` without `--all` lists it."""
        return self in _SHOWN


_SHOWN = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)


class ContainerView(msgspec.Struct, frozen=True):
    """A container with the names of what it belongs to."""

    id: str
    name: str
    image: str
    command: tuple[str, ...]
    created_at: Instant
    state: ContainerState
    since: Instant = Instant(0)
    """When it entered its state; 0: never."""
    exit_code: int = 0
    health: HealthState = HealthState.NONE
    ports: tuple[PortConfig, ...] = ()
    networks: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    node_name: str = ""
    task_id: str = ""
    service_id: str = ""
    service_name: str = ""
    """Empty: it is a container, not a task of a service."""
    node_id: str = ""
    size_rw: int = 0
    """Bytes of its writable layer; SIZE_UNKNOWN: not measured; 0: none, or none were requested."""
    size_root_fs: int = 0
    """Bytes of its writable layer and its image."""


def id_of(service: Service, task: Task | None) -> str:
    """The id of the container."""
    return service.id if service.spec.mode.is_container or task is None else task.id


def name_of(service: Service, task: Task | None) -> str:
    """The name of the container: `db`, or `web.1.TASK`."""
    if service.spec.mode.is_container or task is None:
        return service.spec.name
    return f"{service.name_of(task)}.{task.id}"


def created_at(service: Service, task: Task | None) -> Instant:
    """When the container was created."""
    is_one = service.spec.mode.is_container or task is None
    return service.created_at if is_one else task.created_at  # type: ignore[union-attr]


def state_of(service: Service, task: Task | None) -> ContainerState:
    """What the container does. `task`: its newest one; None: it was never started."""
    if task is None:
        return ContainerState.REMOVING if service.removing else ContainerState.CREATED
    if task.state is TaskState.RUNNING:
        return ContainerState.PAUSED if task.detail.paused else ContainerState.RUNNING
    if service.removing and service.spec.mode.is_container:
        return ContainerState.REMOVING
    if task.state is TaskState.ORPHANED:
        return ContainerState.DEAD
    if task.state is TaskState.REJECTED:
        return ContainerState.CREATED  # as in Docker: it was never started
    if is_terminal(task.state):
        return ContainerState.EXITED
    restarts = service.spec.mode.is_container and task.restarts > 0
    return ContainerState.RESTARTING if restarts else ContainerState.CREATED


def command_of(spec: ContainerSpec, task: Task | None) -> tuple[str, ...]:
    """The command line: as its agent reported it, if the image decides a part; else the spec's."""
    if task is None or not task.detail.command:
        return (*spec.command, *spec.args)
    try:
        return tuple(shlex.split(task.detail.command))
    except ValueError:  # it was cut within quotes
        return tuple(task.detail.command.split())


def image_volumes(task: Task | None) -> tuple[Mount, ...]:
    """The volumes without a name that VOLUME of its image made, as its agent reported them."""
    if task is None or not task.detail.image_volumes:
        return ()
    try:
        return tuple(Mount(target=path) for path in shlex.split(task.detail.image_volumes))
    except ValueError:  # no agent sends such
        return ()


def published(service: Service, task: Task | None) -> tuple[PortConfig, ...]:
    """The published ports of a running task: of the routing mesh, and of its host."""
    if task is None or task.state is not TaskState.RUNNING:
        return ()
    mesh = (p for p in service.endpoint.ports if p.publish_mode is PublishMode.INGRESS)
    return (*mesh, *task.detail.ports)


def swarm_labels(service: Service, task: Task) -> dict[str, str]:
    """The labels that Docker Swarm adds to the containers of services."""
    return {
        "com.docker.swarm.node.id": task.node_id,
        "com.docker.swarm.service.id": service.id,
        "com.docker.swarm.service.name": service.spec.name,
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": task.id,
        "com.docker.swarm.task.name": name_of(service, task),
    }
