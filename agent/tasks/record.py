"""The record of one task that an agent keeps on disk and in memory. PURE value.

A record exists before anything else of the task, and until the task is deleted from the store. From
the record alone a restarted agent knows what was requested, what was begun and what must not be
done twice.
"""

import typing
from collections.abc import Mapping, Sequence
from itertools import count
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from agent.health.base import CheckObserver, Due, Target
from agent.health.verdict import Check, CheckKind, tolerance
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.model import Model
from pyswarm_core.objects import NO_DETAIL, HealthState, TaskDetail, TaskStatus
from pyswarm_core.payloads.references import ConfigReference, SecretReference
from pyswarm_core.specs import (
    PREDEFINED_NETWORKS,
    NetworkAttachment,
    PortConfig,
    Protocol,
    RegistryLogin,
    Resources,
    TaskSpec,
)
from pyswarm_core.states import TaskState, is_terminal
from pyswarm_core.views import TaskCheck
from pyswarm_core.volumes.mounts import Driver

FIRST_INTERFACE = "eth0"


class InPlaceChange(Model, frozen=True):
    """What a spec version set that changes while a container runs: limits; other resources of it
    have no effect on a container. `networks`: those that a container joins, None if they stay.
    `secrets` and `configs`: None if they stay. `forced`: all is written, as a change before it may
    have been carried out in part.
    """

    version: int
    resources: Resources
    networks: tuple[NetworkAttachment, ...] | None = None
    forced: bool = False
    secrets: tuple[SecretReference, ...] | None = None
    configs: tuple[ConfigReference, ...] | None = None

    def with_references(self, spec: TaskSpec) -> TaskSpec:
        """The spec with these secrets and configs."""
        container = spec.container_spec
        if self.secrets is None or self.configs is None:
            return spec
        container = replace(container, secrets=self.secrets, configs=self.configs)
        return replace(spec, container_spec=container)


class Interface(Model, frozen=True):
    """An interface of a task: its network, address, and name in the task's namespace."""

    network_id: NetworkId
    address: str
    name: str


def names_of(
    networks: Sequence[NetworkId], known: Mapping[NetworkId, str] = MappingProxyType({})
) -> list[str]:
    """The names of interfaces on these networks: the `known` ones, of others the lowest free."""
    taken = {known[network_id] for network_id in networks if network_id in known}
    free = (name for name in map("eth{}".format, count()) if name not in taken)
    return [known.get(network_id) or next(free) for network_id in networks]


class Record(Model, frozen=True):
    """One task as its agent sees it."""

    task_id: TaskId
    service_id: ServiceId
    service_name: str
    slot: int
    node_id: NodeId
    spec: TaskSpec
    global_service: bool = False
    spec_version: int = 0
    ports: tuple[PortConfig, ...] = ()
    """The ports that its service publishes."""
    login: RegistryLogin | None = None
    """For pulling the image; removed once the image is pulled. Never on disk."""
    has_login: bool = False
    """On disk: it has a login, which the next assignment brings again."""
    awaits_login: bool = False
    """It is prepared as soon as an assignment brings its login."""
    desired_state: TaskState = TaskState.RUNNING
    state: TaskState = TaskState.ACCEPTED
    detail: TaskDetail = NO_DETAIL
    image_id: str = ""
    """The image that the container was made from; it is in use until the task is clean."""
    mounted_images: tuple[str, ...] = ()
    """The images that its mounts show; in use for as long."""
    stop_signal: str = ""
    """The stop signal of the prepared container: the spec's, the image's or SIGTERM."""
    accepted_at: Instant = Instant(0)
    ready_at: Instant = Instant(0)
    started_at: Instant = Instant(0)
    """When its process was started; 0 before."""
    running_at: Instant = Instant(0)
    """When it became `running`: once it was healthy, if it has a health check; 0 before."""
    health: Check | None = None
    """Set once the image is known; None: it has no health check."""
    readiness: Check | None = None
    left_at: Instant = Instant(0)
    """When it last ceased to serve; 0: it never served."""
    drain_at: Instant = Instant(0)
    """When the stop that the agent began by itself goes on: until then the task leaves the
    backends; 0 unless it does.
    """
    unhealthy: str = ""
    """The task's error: why its agent stops it, since its health check failed."""
    kill_at: Instant = Instant(0)
    """When SIGKILL is due: at the end of the grace period, then repeatedly until the exit is seen;
    0 unless the task is being stopped.
    """
    stop_timeout: int = 0
    """The grace period of the stop that a user requested; 0: the spec's."""
    signalled: bool = False
    """The stop signal was requested from the runtime since this agent has the task."""
    clean: bool = False
    """The task has ended and nothing of it is left but its log."""
    unassigned: bool = False
    """The task was deleted from the store: the record is removed once the task is clean."""
    layer: str = ""
    """Of a container: its kept writable layer; empty: the layer goes with the task."""
    volatile: bool = True
    """What it writes may be lost with the host's power."""
    volumes: dict[str, str] = {}
    """The ids of the volumes that its mounts name, by name."""
    drivers: dict[str, Driver] = {}
    """The drivers of its volumes that have options, by name; passwords are masked."""
    generic_resources: dict[str, str] = {}
    """Kind -> names or number of the resources that users define which it has."""
    service_labels: dict[str, str] = {}
    """Of a task with templates in its spec, which may name them."""
    kept_images: tuple[str, ...] = ()
    """The images of the other versions that its service keeps, to which it may be rolled back."""
    in_place_change: InPlaceChange | None = msgspec.field(default=None, name="NewLimits")
    """To be carried out as soon as its process runs; None: `spec` has what is in force. Its name
    in files is that of former versions.
    """
    interfaces: tuple[Interface, ...] = ()
    """Once its networks were changed: all that it may have, also those that are being made or
    removed. Empty before: see `held`.
    """

    @property
    def name(self) -> str:
        """`web.1`, `web.<node id>` of a global service, `web` of a container."""
        if self.layer:
            return self.service_name
        return f"{self.service_name}.{self.node_id if self.global_service else self.slot}"

    @property
    def claim(self) -> str:
        """What only one task at a time has: a container's writable layer, or the writable volumes
        of a slot; empty: nothing.
        """
        if self.layer or not self.spec.writes_volumes:
            return self.layer
        return f"{self.service_id}.{self.slot}"

    @property
    def ended(self) -> bool:
        return is_terminal(self.state)

    @property
    def process_runs(self) -> bool:
        """Whether its process was started and has not ended."""
        started = self.state is TaskState.RUNNING or bool(self.started_at)
        return started and not self.ended

    @property
    def in_place_version(self) -> int:
        """The newest spec version whose limits and networks it has, is to get or could not get."""
        known = max(self.spec_version, self.detail.in_place_version)
        return max(known, self.in_place_change.version) if self.in_place_change else known

    @property
    def held(self) -> tuple[Interface, ...]:
        """The interfaces that it may have."""
        if self.interfaces:
            return self.interfaces
        addresses = self.detail.addresses
        names = names_of([one.network_id for one in addresses])
        named = zip(addresses, names, strict=True)
        return tuple(Interface(one.network_id, one.address, name) for one, name in named)

    @property
    def stops(self) -> bool:
        """Whether its stop has begun."""
        return bool(self.kill_at or self.drain_at)

    @property
    def wake_at(self) -> Instant:
        """When TimerFired is due, whatever other events come before."""
        return NEVER if self.ended else self.kill_at or self.drain_at or NEVER

    @property
    def is_reachable(self) -> bool:
        """Whether other hosts or users may have connections to it: it is in a network of the fleet
        or has host ports.
        """
        networks = (address.network_id for address in self.detail.addresses)
        shared = any(network_id not in PREDEFINED_NETWORKS for network_id in networks)
        return shared or bool(self.detail.ports)

    def check(self, kind: CheckKind) -> Check | None:
        """Its check of this kind."""
        return self.health if kind is CheckKind.HEALTH else self.readiness

    @property
    def durable(self) -> "Record":
        """The record as it is on disk, without its login."""
        if self.login is None and not self.awaits_login:
            return self
        return replace(self, login=None, has_login=True, awaits_login=False)

    @property
    def lacks_login(self) -> bool:
        """Whether an earlier agent had its login and this one does not."""
        return self.has_login and self.login is None and not self.ended

    @property
    def has_checks(self) -> bool:
        """Whether it has a check of any kind."""
        return bool(self.health or self.readiness)

    def due(self, kind: CheckKind) -> Due | None:
        """When and how the next check of this kind is made; None unless it has one, its process
        runs, and it is neither paused nor being stopped.
        """
        check = self.check(kind)
        if check is None or not self.process_runs or self.stops or self.detail.paused:
            return None
        address = next((one.address for one in self.detail.addresses), "")
        target = Target(self.task_id, self.detail.pid, address)
        return Due(check.due_at, check.config, target, tolerance(check))

    @property
    def task_checks(self) -> tuple[TaskCheck, ...]:
        """Its checks, as users see them."""
        checks = ((kind, self.check(kind)) for kind in CheckKind)
        return tuple(
            TaskCheck(
                kind=kind,
                config=check.config,
                state=check.state,
                failing_streak=check.failing_streak,
                results=check.results,
            )
            for kind, check in checks
            if check is not None
        )

    def differs_in_results_alone(self, former: "Record") -> bool:
        """Whether nothing but results of checks, with their streaks and next times, differs from a
        former record.
        """
        if self.health is former.health and self.readiness is former.readiness:
            return False
        for check, before in ((self.health, former.health), (self.readiness, former.readiness)):
            if check is not before and (not check or not before or check.state != before.state):
                return False
        return replace(former, health=self.health, readiness=self.readiness) == self

    @property
    def is_healthy(self) -> bool:
        """Whether it has no health check, or one that succeeded and has not failed since."""
        return self.health is None or self.health.state is HealthState.HEALTHY

    @property
    def is_ready(self) -> bool:
        """Whether it has no readiness check, or one that succeeded and has not failed since."""
        return self.readiness is None or self.readiness.state is HealthState.HEALTHY

    @property
    def tcp_ports(self) -> frozenset[int]:
        """The TCP ports on which it must listen before it serves."""
        return frozenset(p.target_port for p in self.ports if p.protocol is Protocol.TCP)

    @property
    def may_begin_serving(self) -> bool:
        """Whether it runs, is ready, is not being stopped, paused or frozen and does not serve
        yet.
        """
        running = self.state is TaskState.RUNNING and not self.stops and not self.detail.paused
        frozen = self.desired_state is TaskState.FROZEN
        return running and self.is_ready and not frozen and not self.detail.serving

    def status(self) -> TaskStatus:
        """The status that the agent reports."""
        return TaskStatus(self.task_id, self.state, self.detail)


class TaskObserver(CheckObserver, typing.Protocol):
    """Observes the changes of tasks' states, and their checks, for metrics."""

    def moved(self, before: Record, after: Record) -> None:
        """A task changed its state; the records hold the times."""
