"""Lists of containers for `ps`: those of mode container, and the tasks of all services. PURE."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import NamedTuple

import msgspec

from controller.api.queries import filters, lookup
from controller.api.queries.filters import Filters, Key
from controller.api.queries.lookup import Sees
from controller.api.queries.views import task_view
from controller.brain.mounts import volumes_of_task
from controller.brain.slices import Slices, batches
from pyswarm_core.clock import Instant
from pyswarm_core.docker.containers import views as containers
from pyswarm_core.docker.containers.views import DEFAULT_NETWORK, ContainerState, ContainerView
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, invalid, no_such_container
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.limits import LIST_MAX, SLICE_TASKS
from pyswarm_core.objects import HealthState, Service, Task
from pyswarm_core.specs import PREDEFINED_NETWORKS, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.states import is_terminal
from pyswarm_core.views import TaskView
from pyswarm_core.volumes.mounts import MountType


class ContainerQuery(msgspec.Struct, frozen=True):
    """The containers to list; has the fields of ListContainersRequest."""

    all: bool = False
    """Also those that do not run."""
    last: int = 0
    """The newest ones of any state; 0: no bound."""
    filters: tuple[str, ...] = ()
    size: bool = False
    """Whether their files are measured."""


class Container(NamedTuple):
    """A container as its filters see it."""

    state: State
    service: Service
    task: Task | None
    """None: it was never started."""

    @property
    def id(self) -> str:
        """The id that `ps` shows."""
        return containers.id_of(self.service, self.task)

    @property
    def created_at(self) -> Instant:
        """When it was created."""
        return containers.created_at(self.service, self.task)

    @property
    def does(self) -> ContainerState:
        """What it does."""
        return containers.state_of(self.service, self.task)

    @property
    def template(self) -> TaskSpec:
        """The template that it was made from; the current one if that is no longer kept."""
        task = self.task
        made_from = self.service.template(task.spec_version) if task else None
        return made_from or self.service.spec.task_template

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, with those that Docker Swarm adds for tasks of services."""
        labels = self.template.container_spec.labels
        if self.service.spec.mode.is_container or self.task is None:
            return labels
        return labels | containers.swarm_labels(self.service, self.task)

    @property
    def networks(self) -> tuple[str, ...]:
        """The ids of its networks, or predefined names."""
        return tuple(one.target for one in self.template.networks) or (DEFAULT_NETWORK,)

    @property
    def mounted(self) -> Iterator[str]:
        """What Docker's filter `volume` compares: the names of its volumes, the sources of its
        binds, and the targets of both.
        """
        mounts = self.template.container_spec.mounts
        yield from (mount.source for mount in mounts if mount.type is MountType.BIND)
        yield from (mount.target.rstrip("/") for mount in mounts)
        if self.task is None or self.service.spec.mode.is_container:
            yield from self.template.volumes
        else:
            yield from volumes_of_task(self.state, self.service, self.task)

    @property
    def node_name(self) -> str:
        """The name of its node; empty: it has none."""
        node = self.state.nodes.get(self.task.node_id) if self.task else None
        return node.description.hostname if node else ""


class Found(msgspec.Struct, frozen=True):
    """What a ref names; has the fields of ContainerReply."""

    service: Service
    task: TaskView | None
    """None: a service of any number of tasks, or a container that was never started."""
    networks: dict[str, str]


def _name_is(item: Container, value: str) -> bool:
    """Docker's names begin with a slash, which its users may leave out."""
    begins, part = value.startswith("^"), value.removeprefix("^").removeprefix("/")
    name = containers.name_of(item.service, item.task)
    return filters.has_part(name, f"^{part}" if begins else part)


def _made_from(item: Container, value: str) -> bool:
    image, wanted = (_reference(item.template.container_spec.image), _reference(value))
    if image is None or wanted is None or image.name != wanted.name:
        return False
    return wanted.digest == image.digest if wanted.digest else wanted.tag == image.tag


@lru_cache(1000)
def _reference(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except InvalidArgument:
        return None


def _on_network(item: Container, value: str) -> bool:
    return any(
        target == value or _network_name(item.state, target) == value for target in item.networks
    )


def _network_name(state: State, target: str) -> str:
    if target in PREDEFINED_NETWORKS:
        return target
    network = state.networks.get(NetworkId(target))
    return network.spec.name if network else target


class _Ports(NamedTuple):
    first: int
    last: int
    protocol: str


@lru_cache(100)
def _span(text: str) -> _Ports:
    """`80`, `80/tcp` or `8000-8080/udp`. Raises InvalidArgument."""
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdecimal() and len(end) < 6 for end in ends):
        raise invalid("--filter", text, "expected PORT[-PORT][/PROTOCOL]", "port")
    return _Ports(int(ends[0]), int(ends[1]), protocol or "tcp")


def _publishes(item: Container, value: str) -> bool:
    span = _span(value)
    ports = (*item.service.endpoint.ports, *(item.task.detail.ports if item.task else ()))
    return any(
        span.first <= port.published_port <= span.last and port.protocol == span.protocol
        for port in ports
    )


def _exposes(item: Container, value: str) -> bool:
    span = _span(value)
    return any(
        span.first <= port.target_port <= span.last and port.protocol == span.protocol
        for port in item.service.spec.endpoint_spec.ports
    )


def _node_is(item: Container, value: str) -> bool:
    node_id = item.task.node_id if item.task else ""
    return bool(value) and (item.node_name == value or node_id.startswith(value))


def _service_is(item: Container, value: str) -> bool:
    return item.service.spec.name == value or item.service.id.startswith(value)


def _exited(item: Container, value: str) -> bool:
    is_over = item.does in (ContainerState.EXITED, ContainerState.DEAD)
    return is_over and item.task is not None and str(item.task.detail.exit_code) == value


def _health(item: Container, value: str) -> bool:
    is_up = item.does is ContainerState.RUNNING and item.task is not None
    health = item.task.detail.health if is_up and item.task else HealthState.NONE
    return (health.value or "none") == value


KEYS: Mapping[str, Key[Container]] = {
    "id": Key(lambda item, value: item.id.startswith(value)),
    "name": Key(_name_is),
    "label": Key(lambda item, value: filters.has_label(item.labels, value)),
    "status": Key(lambda item, value: item.does == value, tuple(ContainerState)),
    "exited": Key(_exited),
    "ancestor": Key(_made_from),
    "network": Key(_on_network),
    "volume": Key(lambda item, value: (value.rstrip("/") or "/") in item.mounted),
    "publish": Key(_publishes),
    "expose": Key(_exposes),
    "health": Key(_health, (*(state.value for state in HealthState if state), "none")),
    "before": Key(lambda item, value: item.created_at < int(value)),
    "since": Key(lambda item, value: item.created_at > int(value)),
    "is-task": Key(
        lambda item, value: item.service.spec.mode.is_container == (value == "false"),
        ("true", "false"),
    ),
    "node": Key(_node_is),
    "service": Key(_service_is),
}
"""Docker's filters, and those of a fleet: `node` and `service`."""
_TIMES = ("before", "since")


def find_containers(state: State, query: ContainerQuery, sees: Sees) -> Slices[list[str]]:
    """The ids of the containers that the caller may see, newest first.

    Raises InvalidArgument for a filter, or for more than LIST_MAX containers; NotFound for one that
    `before` or `since` names.
    """
    parsed = yield from _with_times(state, filters.parse(query.filters, KEYS, "container"), sees)
    every = query.all or query.last > 0 or "status" in parsed
    at_once = max(1, SLICE_TASKS // (1 + sum(map(len, parsed.values()))))
    runs: list[list[Container]] = []
    count = 0
    for part in batches(_candidates(state), at_once):
        yield
        found = [
            one
            for one in part
            if (every or one.does.is_shown)
            and sees(state, one.id)
            and filters.matches(one, parsed, KEYS)
        ]
        count += len(found)
        if count > LIST_MAX and not query.last:
            raise InvalidArgument(f"more than {LIST_MAX} containers match: add a filter, or --last")
        runs.append(sorted(found, key=_newest_first))
    ordered = merge(*runs, key=_newest_first)
    ids: list[str] = []
    for part in batches(islice(ordered, query.last or None), SLICE_TASKS):
        ids += [one.id for one in part]
        yield
    return ids


def _newest_first(item: Container) -> tuple[int, str]:
    return -item.created_at, item.id


def _with_times(state: State, parsed: Filters, sees: Sees) -> Slices[Filters]:
    """The filters with times in place of the containers that `before` and `since` name."""
    times = {}
    for key in _TIMES:
        if key in parsed:
            named = []
            for ref in parsed[key]:
                found = yield from find_container(state, ref)
                if not sees(state, found.service.id):
                    raise no_such_container(ref)
                named.append(str(found.created_at))
            times[key] = named
    for key in ("publish", "expose"):
        for value in parsed.get(key, ()):
            _span(value)
    return {**parsed, **times}


def _candidates(state: State) -> Iterator[Container]:
    """All containers, without removed ones, of which the exit code alone is still kept."""
    for service_id in list(state.services):
        service = state.services.get(service_id)
        if service is None:
            continue
        slots = list(state.tasks_of_service(service_id).slots.values())
        if service.spec.mode.is_container:
            task = slots[0][-1] if slots else None
            if not service.removing or (task is not None and not is_terminal(task.state)):
                yield Container(state, service, task)
        else:
            for held in slots:
                for task in held:
                    yield Container(state, service, task)


def find_container(state: State, ref: str) -> Slices[Container]:
    """The container of that name or id; a service of several tasks is one without a task.

    Raises NotFound in Docker's words.
    """
    found = yield from lookup.find_container(state, ref)
    service = found if isinstance(found, Service) else state.services.get(found.service_id)
    if service is None:
        raise no_such_container(ref)
    task = None if isinstance(found, Service) else found
    return _container(state, service, task)


def _container(state: State, service: Service, task: Task | None) -> Container:
    """The container of a service or task; of mode container its newest task counts."""
    if service.spec.mode.is_container:
        slots = list(state.tasks_of_service(service.id).slots.values())
        task = slots[0][-1] if slots else None
    return Container(state, service, task)


def container_view(state: State, container_id: str) -> ContainerView | None:
    """The container by the id that `find_containers` returned; None if it is gone."""
    found = _by_id(state, container_id)
    return None if found is None else _view(found)


def container_task(state: State, container_id: str) -> Task | None:
    """The task of the container by that id; None if it was never started, or is gone."""
    found = _by_id(state, container_id)
    return None if found is None else found.task


def _by_id(state: State, container_id: str) -> Container | None:
    task = state.tasks.get(TaskId(container_id))
    service = state.services.get(task.service_id if task else ServiceId(container_id))
    return None if service is None else _container(state, service, task)


def _view(item: Container) -> ContainerView:
    service, task = item.service, item.task
    container = item.template.container_spec
    does = item.does
    is_container = service.spec.mode.is_container
    return ContainerView(
        id=item.id,
        name=containers.name_of(service, task),
        image=container.image,
        command=_command(item),
        created_at=item.created_at,
        state=does,
        since=_since(task),
        exit_code=_exit_code(item, does),
        health=task.detail.health if task else HealthState.NONE,
        ports=containers.published(service, task),
        networks=tuple(_network_name(item.state, target) for target in item.networks),
        labels=item.labels,
        node_name=item.node_name,
        task_id=task.id if task else "",
        service_id=service.id,
        service_name="" if is_container else service.spec.name,
        node_id=task.node_id if task else "",
    )


def _command(item: Container) -> tuple[str, ...]:
    """Its command line; while an agent has not reported it, that of the task before, which was made
    from the same spec.
    """
    spec, task = item.template.container_spec, item.task
    if task is not None and not (task.detail.command or spec.command):
        held = item.state.tasks_of_service(item.service.id).slots.get(task.slot, ())
        for earlier in reversed(held):
            if earlier.detail.command and earlier.spec_version == task.spec_version:
                return containers.command_of(spec, earlier)
    return containers.command_of(spec, task)


def _since(task: Task | None) -> Instant:
    return Instant(0) if task is None else task.status_at or task.created_at


def _exit_code(item: Container, does: ContainerState) -> int:
    """Its exit code; of one that is restarted that of the task before."""
    task = item.task
    if task is None:
        return 0
    if does is not ContainerState.RESTARTING:
        return task.detail.exit_code
    held: Sequence[Task] = item.state.tasks_of_service(item.service.id).slots.get(task.slot, ())
    return held[-2].detail.exit_code if len(held) > 1 else 0


def shown(item: Container) -> Found:
    """What a ref names, with what `inspect` shows about it."""
    state = item.state
    return Found(
        service=SERVICE.shown(item.service),
        task=task_view(state, item.task) if item.task else None,
        networks={target: _network_name(state, target) for target in item.networks},
    )
