"""Composition root of the agent: constructs its shells. SHELL."""

import asyncio
import os
import platform
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from agent import preflight
from agent.assignment import Assignment
from agent.config import Config
from agent.health.probes import Probes
from agent.images.base import Images
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from agent.layers import kept_addresses
from agent.listening import accepted, listening
from agent.logdrivers.forwarder import Forwarder
from agent.metrics import (
    AgentCollector,
    ContainerMetrics,
    NameQueries,
    NetworkSyncs,
    TaskMetrics,
)
from agent.network.base import Fault, Underlay
from agent.network.dns.forward import HostServers
from agent.network.dns.server import serving_names
from agent.network.kernel import KernelDataplane
from agent.network.names import Names
from agent.network.netns import Namespaces
from agent.outbox import Outbox
from agent.overlays.closing import Closing, listen_addrs, own_listeners, plain_registries
from agent.overlays.overlays import Overlays
from agent.overlays.plan import CONTROLLERS, Plan
from agent.preflight import Preflight
from agent.preparation import Preparation
from agent.records import Records
from agent.runtime.base import LogLimits
from agent.runtime.crun import ConmonRuntime
from agent.runtime.isolation.lacks import missing
from agent.runtime.layout import Layout
from agent.runtime.room import shortage
from agent.runtime.running.attachments import Attachments
from agent.runtime.usage import disks
from agent.runtime.usage.reading import Reader
from agent.session.conversation import Session
from agent.session.greeting import Greeting, Greetings
from agent.session.identity import Identity, Joining, join
from agent.session.jointoken import join_token, refusal_recorded, remove_token
from agent.session.renewal import Renewal, rejoin
from agent.session.tunnels import Dialer
from agent.stats.kernel import KernelMeter
from agent.stats.restarts import Restarts
from agent.stats.sampler import Sampler
from agent.streams.serving import Streams
from agent.tracing import Tracer
from agent.volumes.removing import Removals
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from agent.worker import Worker
from pyswarm_core.aio.daemon import own_folder
from pyswarm_core.aio.echo import Echoes
from pyswarm_core.aio.http.health import serve_health
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.memory import trim
from pyswarm_core.aio.metrics import ScrapeSecurity, serve_metrics
from pyswarm_core.aio.system import SystemClock, UnsteppedClock
from pyswarm_core.errors import InvalidArgument, PermissionDenied, Unavailable
from pyswarm_core.ids import WHOLE_HOST, TaskId
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import NodeDescription, NodeResources, Platform
from pyswarm_core.states import Capability
from pyswarm_core.version import version

_log = EventLog("agent")

ROOM_PERIOD_S = 5.0

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


async def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Containers keep running; the next agent adopts them.

    Raises PyswarmError if this host cannot run containers or may not join.
    """
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    try:
        async with AsyncExitStack() as stack:
            await _serve(config, stack)
    except asyncio.CancelledError:
        _log.info("agent.stopped")


class _Parts(msgspec.Struct, frozen=True):
    """The components of an agent, before it connects to a controller."""

    images: Images
    runtime: ConmonRuntime
    overlays: Overlays
    dataplane: KernelDataplane
    worker: Worker
    outbox: Outbox
    tracer: Tracer
    reading: "_Reading"
    lacks: frozenset[Capability]
    """What this host lacks for some containers."""
    logs: Forwarder
    removals: Removals


class _Reading(msgspec.Struct, frozen=True):
    """What is read of this host on request."""

    registry: CollectorRegistry
    sampler: Sampler
    containers: ContainerMetrics
    streams: Streams


class _Served:
    """What the servers of metrics and health read, from threads of theirs; empty before the agent
    has joined.
    """

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.session: Session | None = None
        self.containers: ContainerMetrics | None = None

    def listen(self, config: Config, stack: AsyncExitStack, registry: CollectorRegistry) -> None:
        """Begin to serve."""
        security = ScrapeSecurity(self._credentials, self._token_digest)
        stack.enter_context(
            serve_metrics(config.metrics_addr, registry, security, self._more, trim)
        )
        stack.enter_context(serve_health(config.health_addr, self._is_ready))

    def _more(self, *, openmetrics: bool) -> list[bytes]:
        return self.containers.text(openmetrics=openmetrics) if self.containers else []

    def _credentials(self) -> bytes:
        if self.identity is None:
            return b""
        certificate = self.identity.certificate
        return f"{certificate.chain}{certificate.key}".encode()

    def _token_digest(self) -> bytes:
        return self.session.scrape_digest if self.session else b""

    def _is_ready(self) -> bool:
        return self.session is not None and self.session.connected


def _own_folders(config: Config, stack: AsyncExitStack, *, is_new: bool) -> None:
    stack.enter_context(own_folder("--state-dir", config.state_dir))
    stack.enter_context(own_folder("--run-dir", config.run_dir))
    if is_new and (short := shortage((config.run_dir, config.state_dir))):
        raise Unavailable(f"this host cannot join: {short}")


async def _serve(config: Config, stack: AsyncExitStack) -> None:
    """Run the agent. What can fail comes before joining: a node that joined is not removed."""
    if config.rejoin:
        token = join_token(config.join_token, config.join_token_file)
        await rejoin(_identity_path(config), token, config.controllers)
        return
    known = _known(config)
    _own_folders(config, stack, is_new=known is None)
    registry = CollectorRegistry()
    served = _Served()
    served.listen(config, stack, registry)
    parts = await _parts(config, stack, registry)
    served.containers = parts.reading.containers
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.overlays.run())
        group.create_task(parts.dataplane.tend())
        group.create_task(parts.runtime.tend())
        group.create_task(parts.worker.run())
        group.create_task(parts.removals.run())
        lacks = await parts.dataplane.overlay.missing_capabilities()
        identity = known or await _join(config, _description(config, parts.lacks.union(lacks)))
        identity.learn(config.controllers)
        remove_token(config.join_token_file)
        served.identity = identity
        await _converse(config, parts, served, group, stack)


async def _converse(
    config: Config,
    parts: _Parts,
    served: _Served,
    group: asyncio.TaskGroup,
    stack: AsyncExitStack,
) -> None:
    """Begin the session with the leader, once adopted containers are known."""
    identity = served.identity
    assert identity is not None
    overlay = parts.dataplane.overlay

    async def assign(assignment: Assignment) -> None:
        await _assign(assignment, identity, parts)

    async def examine() -> Greeting:
        lacks = parts.lacks.union(await overlay.missing_capabilities())
        addresses = await overlay.addresses6()
        return Greeting(_description(config, lacks), config.advertise_addr, addresses)

    await _close(config, parts.overlays, identity, group)
    echoes = Echoes(parts.outbox.probed)
    stack.callback(echoes.close)
    renewal = Renewal(identity, lambda: session.controller)
    dialer = _dialer(parts)
    stack.callback(dialer.close)
    session = Session(
        identity,
        Greetings(examine, group).current,
        parts.outbox,
        parts.worker,
        assign=assign,
        probe=echoes.ask,
        close=partial(parts.overlays.close, CONTROLLERS),
        open_tunnel=dialer.open,
        worn_key=overlay.worn_key,
        faults=lambda: (*_host_faults(parts.worker), *parts.overlays.faults),
        roots_changed=renewal.roots_changed,
        refused=renewal.refused,
    )
    served.session = session
    reading = parts.reading
    reading.registry.register(
        AgentCollector(parts.worker, parts.overlays, session, parts.dataplane, reading.streams)
    )
    group.create_task(_check_room(config, parts.worker))
    group.create_task(renewal.run())
    group.create_task(parts.logs.run())
    await parts.worker.adopted()
    group.create_task(session.run())


def _dialer(parts: _Parts) -> Dialer:
    reading = parts.reading
    return Dialer(
        parts.worker,
        parts.images,
        parts.runtime,
        parts.tracer.trace,
        reading.streams,
        sampler=reading.sampler,
    )


def _host_faults(worker: Worker) -> tuple[Fault, ...]:
    """The fault that keeps this host from starting any task, if there is one."""
    reason = f"cannot start containers: {worker.unable}"
    return (Fault(network_id=WHOLE_HOST, reason=reason),) if worker.unable else ()


async def _close(
    config: Config, overlays: Overlays, identity: Identity, group: asyncio.TaskGroup
) -> None:
    """Close to tasks what this agent knows of the control plane, now and as it changes."""
    own = own_listeners((config.metrics_addr, config.health_addr), config.advertise_addr)
    registries = plain_registries(config.registry_mirrors)
    closing = Closing(overlays, own, registries, lambda: identity.controllers)
    await closing.renew()
    group.create_task(closing.run())


async def _check_room(config: Config, worker: Worker) -> None:
    """Check periodically whether this host has space for containers."""
    while True:
        worker.room_checked(await asyncio.to_thread(shortage, (config.run_dir, config.state_dir)))
        await asyncio.sleep(ROOM_PERIOD_S)


async def _parts(config: Config, stack: AsyncExitStack, registry: CollectorRegistry) -> _Parts:
    host = _prepared_host()
    images = await stack.enter_async_context(open_images(_image_settings(config)))
    layout, runtime, logs = _runtime(config, host, stack)
    volumes = _volumes(config, layout, stack)
    network = await _network(config, stack, (outbox := Outbox()), registry)
    overlays, dataplane = network.overlays, network.dataplane
    preparation = Preparation(
        attachments=(attachments := Attachments(SystemClock())),
        images=images,
        overlays=overlays,
        runtime=runtime,
        host=host.facts,
        hostname=config.hostname,
        cgroup_parent=config.cgroup_parent,
        resolv_conf=config.resolv_conf,
        log_limits=LogLimits(max_size=config.log_max_size, max_file=config.log_max_file),
        forward=logs.begin,
        volumes=volumes,
    )
    namespaces = network.namespaces
    stack.callback((probes := Probes(runtime, namespaces.tcp_socket)).close)
    restarts = Restarts()
    worker = Worker(
        clock=UnsteppedClock(),
        records=Records(config.state_dir / "tasks", config.run_dir / "checks"),
        runtime=runtime,
        overlays=overlays,
        preparation=preparation,
        outbox=outbox,
        observer=TaskMetrics(registry, restarts),
        listening=listening,
        accepted=accepted,
        probe=probes,
    )
    overlays.kept = lambda: kept_addresses(worker.records.values())
    removals = Removals(volumes.remove, outbox, lambda: worker.records, worker.ended)
    stack.callback((tracer := _tracer(network, worker, images)).close)
    streams = Streams(runtime, attachments, lambda: worker.records, namespaces.tcp_socket_in)
    await stack.enter_async_context(streams)
    meter = KernelMeter(Reader(host.hierarchies), layout.cgroup, Names(config.fleet))
    sampler = Sampler(meter, lambda: worker.records, config.memory_bytes)
    containers = ContainerMetrics(sampler, restarts, config.hostname)
    reading = _Reading(registry, sampler, containers, streams)
    lacks = await asyncio.to_thread(_lacks, config, host)
    return _Parts(
        images, runtime, overlays, dataplane, worker, outbox, tracer, reading, lacks, logs, removals
    )


def _runtime(
    config: Config, host: Preflight, stack: AsyncExitStack
) -> tuple[Layout, ConmonRuntime, Forwarder]:
    """Containers, their files, and the sending of their logs."""
    layout = Layout(config.state_dir, config.run_dir, config.cgroup_parent)
    layout.prepare()
    disks.count_disks(host.hierarchies, layout.cgroup_parent)
    runtime = ConmonRuntime(host.binaries, layout, host.hierarchies)
    stack.callback(runtime.close)
    forwarder = Forwarder(layout.logs, config.hostname, layout.writes_no_more)
    stack.callback(forwarder.close)
    return layout, runtime, forwarder


def _prepared_host() -> Preflight:
    for change in preflight.prepare():
        _log.info("host.prepared", what=change)
    return preflight.probe()


def _volumes(config: Config, layout: Layout, stack: AsyncExitStack) -> Volumes:
    (store := VolumeStore(config.state_dir)).prepare()
    volumes = Volumes(store, config.run_dir, lambda task_id: layout.writable(task_id) / "volumes")
    stack.callback(volumes.close)
    return volumes


def _lacks(config: Config, host: Preflight) -> frozenset[Capability]:
    found = missing(config.state_dir, config.run_dir, apparmor=host.facts.apparmor)
    for capability, reason in found.items():
        _log.info("host.lacks", what=capability, reason=reason)
    return frozenset(found)


def _tracer(network: "_Network", worker: Worker, images: Images) -> Tracer:
    overlays = network.overlays
    return Tracer(
        network.dataplane,
        network.namespaces,
        network.dataplane.names,
        lambda: overlays.programmed,
        lambda task_id, protocol: _exposed(task_id, protocol, worker, images),
        closes=overlays.closes,
    )


class _Network(msgspec.Struct, frozen=True):
    dataplane: KernelDataplane
    namespaces: Namespaces
    overlays: Overlays


async def _network(
    config: Config, stack: AsyncExitStack, outbox: Outbox, registry: CollectorRegistry
) -> _Network:
    underlay = Underlay(address=config.advertise_addr, port=config.data_path_port)
    dataplane = KernelDataplane(
        config.fleet, underlay, config.run_dir / "netns", fast_path=config.fast_path
    )
    stack.callback(dataplane.close)
    namespaces = Namespaces(config.run_dir / "netns")
    stack.callback(namespaces.close)
    resolvers = await stack.enter_async_context(
        serving_names(namespaces, HostServers(config.resolv_conf), NameQueries(registry))
    )
    overlays = Overlays(
        dataplane,
        Plan(config.bridge_subnet, config.advertise_addr),
        config.run_dir / "overlays.json",
        outbox.acknowledge,
        resolvers,
        watch=NetworkSyncs(registry),
    )
    return _Network(dataplane, namespaces, overlays)


async def _exposed(
    task_id: TaskId, protocol: str, worker: Worker, images: Images
) -> tuple[int, ...]:
    """The ports of the protocol that the task's image exposes."""
    record = worker.records.get(task_id)
    found = [i for i in await images.list() if record is not None and i.id == record.image_id]
    ports = [port.partition("/") for image in found for port in image.config.exposed_ports]
    return tuple(int(number) for number, _, named in ports if (named or "tcp") == protocol)


async def _assign(assignment: Assignment, identity: Identity, parts: _Parts) -> None:
    """Apply networks first, then tasks, which attach to them."""
    await parts.overlays.assign(assignment)
    await parts.worker.assign(assignment, identity.node_id)
    parts.removals.assigned(assignment)


def _known(config: Config) -> Identity | None:
    """This node's identity; None if it must join. Raises InvalidArgument if flags to join are
    missing.
    """
    if os.geteuid():
        raise PermissionDenied("the agent must run as root: it makes containers and networks")
    if identity := Identity.load(_identity_path(config)):
        return identity
    if not config.controllers or not join_token(config.join_token, config.join_token_file):
        raise InvalidArgument(
            "this host has not joined a fleet: start the agent with --controller HOST:PORT and"
            " --join-token TOKEN (`pyswarm swarm join-token worker` prints both)"
        )
    return None


def _identity_path(config: Config) -> Path:
    return config.state_dir / "identity.json"


async def _join(config: Config, description: NodeDescription) -> Identity:
    with refusal_recorded(config.state_dir):
        joining = Joining(
            join_token(config.join_token, config.join_token_file),
            config.controllers,
            description,
            config.advertise_addr,
            config.availability,
        )
        return await join(_identity_path(config), joining)


def _description(config: Config, lacks: Iterable[Capability]) -> NodeDescription:
    machine = platform.machine()
    return NodeDescription(
        hostname=config.hostname,
        platform=Platform(architecture=_ARCHITECTURES.get(machine, machine)),
        resources=NodeResources(nano_cpus=config.nano_cpus, memory_bytes=config.memory_bytes),
        engine_version=version(),
        protocol=PROTOCOL,
        engine_labels=config.labels,
        lacks=tuple(sorted(lacks)),
        max_tasks=config.max_tasks,
        metrics_addrs=listen_addrs(
            (config.metrics_addr, config.health_addr), config.advertise_addr
        ),
    )


def _image_settings(config: Config) -> ImageSettings:
    return ImageSettings(
        root=config.state_dir / "storage",
        run_root=config.run_dir / "storage",
        work=config.state_dir / "pulls",
        name=config.hostname,
        insecure_registries=config.insecure_registries,
        mirrors=config.registry_mirrors,
        auth_file=config.registry_auth_file,
        stall_s=config.pull_stall_s,
    )
