"""Composition root of the agent: constructs its shells. SHELL."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import msgspec
from prometheus_client import CollectorRegistry

from agent import preflight
from agent.assignment import Assignment
from agent.config import Config
from agent.health.probes import Probes
from agent.images.base import Images
from agent.images.gc.collector import Collector, collecting
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from agent.layers import kept_addresses
from agent.listening import accepted, listening
from agent.logdrivers.forwarder import Forwarder
from agent.metrics import (
    AgentCollector,
    ContainerMetrics,
    ImageMetrics,
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
from agent.overlays.closing import Closing, own_listeners, plain_registries
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
from agent.secrets.secrets import open_secrets
from agent.session.conversation import Session
from agent.session.greeting import Greeting, Greetings, description_of
from agent.session.identity import Identity
from agent.session.jointoken import join_token, remove_token
from agent.session.membership import identity_path, joined, known_identity
from agent.session.needed import needed
from agent.session.payloads import Fetcher
from agent.session.peers import shown_by
from agent.session.renewal import Renewal, rejoin
from agent.session.tunnels import Dialer
from agent.stats.kernel import KernelMeter
from agent.stats.restarts import Restarts
from agent.stats.sampler import Sampler
from agent.streams.serving import Streams
from agent.tasks.generic_resources import GenericResources
from agent.tracing import Tracer, exposed
from agent.volumes import views
from agent.volumes.files import VolumeFiles
from agent.volumes.looking import Looking
from agent.volumes.store import VolumeStore
from agent.volumes.upkeep import Upkeep
from agent.volumes.volumes import Volumes
from agent.worker import Worker
from pyswarm_core.aio.channel import unblock_poller
from pyswarm_core.aio.daemon import own_folder, until_stopped
from pyswarm_core.aio.echo import Echoes
from pyswarm_core.aio.http.health import serve_health
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.memory import trim
from pyswarm_core.aio.metrics import ScrapeSecurity, serve_metrics
from pyswarm_core.aio.system import SystemClock, UnsteppedClock
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import WHOLE_HOST
from pyswarm_core.states import Capability
from pyswarm_core.streams.limits import VOLUME_PORT

_log = EventLog("agent")

ROOM_PERIOD_S = 5.0


async def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Containers keep running; the next agent adopts them.

    Raises PyswarmError if this host cannot run containers or may not join.
    """
    unblock_poller()
    with until_stopped():
        async with AsyncExitStack() as stack:
            await _serve(config, stack)
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
    upkeep: Upkeep
    collector: Collector


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
        self.registry = CollectorRegistry()
        self.identity: Identity | None = None
        self.session: Session | None = None
        self.containers: ContainerMetrics | None = None

    def listen(self, config: Config, stack: AsyncExitStack) -> None:
        """Begin to serve."""
        security = ScrapeSecurity(self._credentials, self._token_digest)
        stack.enter_context(
            serve_metrics(config.metrics_addr, self.registry, security, self._more, trim)
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
        await rejoin(identity_path(config), token, config.controllers)
        return
    known = known_identity(config)
    _own_folders(config, stack, is_new=known is None)
    served = _Served()
    served.listen(config, stack)
    parts = await _parts(config, stack, served)
    served.containers = parts.reading.containers
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.overlays.run())
        group.create_task(parts.dataplane.tend())
        group.create_task(parts.runtime.tend())
        group.create_task(parts.worker.run())
        group.create_task(parts.upkeep.run())
        group.create_task(_collect(parts))
        lacks = await parts.dataplane.overlay.missing_capabilities()
        identity = known or await joined(config, description_of(config, parts.lacks.union(lacks)))
        identity.learn(config.controllers)
        identity.announce(config.hostname)
        remove_token(config.join_token_file)
        served.identity = identity
        await _converse(config, parts, served, group, stack)


async def _converse(
    config: Config, parts: _Parts, served: _Served, group: asyncio.TaskGroup, stack: AsyncExitStack
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
        return Greeting(description_of(config, lacks), config.advertise_addr, addresses)

    await _close(config, parts.overlays, identity, group)
    echoes = Echoes(parts.outbox.probed)
    stack.callback(echoes.close)
    renewal = Renewal(identity, lambda: session.controller)
    stack.callback((dialer := _dialer(parts)).close)
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
        image_disk=lambda: parts.collector.disk,
        sources=(looking := Looking(parts.outbox.source)).wanted,
        roots_changed=renewal.roots_changed,
        registries_changed=parts.images.fleet_changed,
        refused=renewal.refused,
    )
    served.session = session
    _register(parts, session)
    checking = _check_room(config, parts.worker)
    for work in (checking, renewal.run(), looking.run(), parts.logs.run()):
        group.create_task(work)
    await parts.worker.adopted()
    group.create_task(session.run())


def _register(parts: _Parts, session: Session) -> None:
    parts.reading.registry.register(
        AgentCollector(
            parts.worker,
            parts.overlays,
            session,
            parts.dataplane,
            streams=parts.reading.streams,
            measuring=parts.upkeep.measuring,
        )
    )


def _dialer(parts: _Parts) -> Dialer:
    reading = parts.reading
    return Dialer(
        parts.worker,
        parts.images,
        parts.runtime,
        parts.tracer.trace,
        reading.streams,
        sampler=reading.sampler,
        collector=parts.collector,
    )


async def _collect(parts: _Parts) -> None:
    """Collect garbage once adopted tasks are known: their images are needed."""
    await parts.worker.adopted()
    await parts.collector.run()


def _host_faults(worker: Worker) -> tuple[Fault, ...]:
    """The fault that keeps this host from starting any task, if there is one."""
    reason = f"cannot start containers: {worker.unable}"
    return (Fault(network_id=WHOLE_HOST, reason=reason),) if worker.unable else ()


async def _close(
    config: Config, overlays: Overlays, identity: Identity, group: asyncio.TaskGroup
) -> None:
    """Close to tasks what this agent knows of the control plane, now and as it changes."""
    address = config.advertise_addr
    volumes = f"[{address}]:{VOLUME_PORT}" if ":" in address else f"{address}:{VOLUME_PORT}"
    listen = (config.metrics_addr, config.health_addr, volumes)
    own = own_listeners(listen, address)
    registries = plain_registries(config.registry_mirrors)
    closing = Closing(overlays, own, registries, lambda: identity.controllers)
    await closing.renew()
    group.create_task(closing.run())


async def _check_room(config: Config, worker: Worker) -> None:
    """Check periodically whether this host has space for containers."""
    while True:
        worker.room_checked(await asyncio.to_thread(shortage, (config.run_dir, config.state_dir)))
        await asyncio.sleep(ROOM_PERIOD_S)


async def _parts(config: Config, stack: AsyncExitStack, served: _Served) -> _Parts:
    host = _prepared_host()
    images = await stack.enter_async_context(open_images(_image_settings(config)))
    layout, runtime, logs = _runtime(config, host, stack)
    volumes = _volumes(config, layout, stack)
    network = await _network(config, stack, (outbox := Outbox()), served.registry)
    overlays, namespaces = network.overlays, network.namespaces
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
        secrets=open_secrets(config.run_dir, Fetcher(served).fetch, lambda: worker.records),
        generic=(generic := GenericResources(config.node_generic_resources)),
    )
    stack.callback((probes := Probes(runtime, namespaces.tcp_socket)).close)
    worker = Worker(
        clock=UnsteppedClock(),
        records=Records(config.state_dir / "tasks", config.run_dir / "checks"),
        runtime=runtime,
        overlays=overlays,
        preparation=preparation,
        outbox=outbox,
        observer=TaskMetrics(served.registry, (restarts := Restarts())),
        listening=listening,
        accepted=accepted,
        probe=probes,
    )
    generic.follow(worker.records)
    overlays.kept = lambda: kept_addresses(worker.records.values())
    upkeep = Upkeep(volumes, outbox, lambda: worker.records, worker.ended)
    stack.callback((tracer := _tracer(network, worker, images)).close)
    stack.callback((files := VolumeFiles(volumes, config.run_dir, lambda: worker.records)).close)
    own = shown_by(served, config.advertise_addr)
    given = (runtime, attachments, lambda: worker.records, namespaces.tcp_socket_in, files)
    streams = await stack.enter_async_context(Streams(*given, own=own, images=images))
    sampler = _sampler(config, host, layout, worker)
    containers = ContainerMetrics(sampler, restarts, config.hostname)
    reading = _Reading(served.registry, sampler, containers, streams)
    lacks = await asyncio.to_thread(_lacks, config, host)
    made = (images, runtime, overlays, network.dataplane, worker, outbox, tracer)
    return _Parts(*made, reading, lacks, logs, upkeep, _collector(config, images, worker, served))


def _collector(config: Config, images: Images, worker: Worker, served: _Served) -> Collector:
    observer = ImageMetrics(served.registry)
    return collecting(config, images, lambda: needed(worker.records.values()), observer)


def _sampler(config: Config, host: Preflight, layout: Layout, worker: Worker) -> Sampler:
    meter = KernelMeter(Reader(host.hierarchies), layout.cgroup, Names(config.fleet))
    return Sampler(meter, lambda: worker.records, config.memory_bytes)


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
    views.clear(config.run_dir)
    volumes = Volumes(
        store,
        config.run_dir,
        lambda task_id: layout.writable(task_id) / "volumes",
        kept=lambda layer: layout.layer(layer) / "volumes",
    )
    volumes.mounts.find()
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
        lambda task_id, protocol: exposed(worker.records.get(task_id), protocol, images),
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


async def _assign(assignment: Assignment, identity: Identity, parts: _Parts) -> None:
    """Apply networks first, then tasks, which attach to them."""
    await parts.overlays.assign(assignment)
    await parts.worker.assign(assignment, identity.node_id)
    parts.upkeep.assigned(assignment)


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
