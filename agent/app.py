"""The agent's composition root: the one place that constructs its shells. SHELL."""

import asyncio
import platform
import signal
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from agent import preflight
from agent.assigned import Assigned
from agent.config import Config
from agent.identity import Identity, Joining, join
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from agent.metrics import AgentCollector, PhaseLatency
from agent.network.base import Underlay
from agent.network.dataplane import KernelDataplane
from agent.outbox import Outbox
from agent.overlays import Overlays
from agent.preparation import Preparation
from agent.records import Records
from agent.runtime.base import LogLimits
from agent.runtime.crun import ConmonRuntime
from agent.runtime.layout import Layout
from agent.session import Greeting, Session
from agent.tunnels import Tunnels
from agent.worker import Worker
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.metrics import serve_metrics
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import NodeDescription, NodeResources, Platform
from pyswarm_core.version import VERSION

_log = EventLog("agent")

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


async def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Containers stay; the next agent adopts them.

    Raises PyswarmError when this host cannot run containers or may not join.
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


async def _serve(config: Config, stack: AsyncExitStack) -> None:
    for directory in (config.state_dir, config.run_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for change in preflight.prepare():
        _log.info("host.prepared", what=change)
    host = preflight.probe()
    clock, outbox, registry = SystemClock(), Outbox(), CollectorRegistry()
    images = await stack.enter_async_context(open_images(_image_settings(config)))
    layout = Layout(config.state_dir, config.run_dir, config.cgroup_parent)
    layout.prepare()
    runtime = ConmonRuntime(host.binaries, layout, host.hierarchies)
    stack.callback(runtime.close)
    dataplane = KernelDataplane(
        config.fleet,
        Underlay(address=config.advertise_addr, port=config.data_path_port),
        config.run_dir / "netns",
    )
    stack.callback(dataplane.close)
    overlays = Overlays(dataplane, config.bridge_subnet, config.state_dir / "overlays.json")
    preparation = Preparation(
        images=images,
        overlays=overlays,
        runtime=runtime,
        host=host.facts,
        cgroup_parent=config.cgroup_parent,
        resolv_conf=config.resolv_conf,
        log_limits=LogLimits(max_size=config.log_max_size, max_file=config.log_max_file),
    )
    worker = Worker(
        clock=clock,
        records=Records(config.state_dir / "tasks"),
        runtime=runtime,
        overlays=overlays,
        preparation=preparation,
        outbox=outbox,
        stopwatch=PhaseLatency(registry),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(overlays.run())
        group.create_task(runtime.tend())
        group.create_task(worker.run())
        identity = await _identity(config)

        async def assign(assigned: Assigned) -> None:
            await _assign(assigned, identity, worker, overlays, outbox)

        session = Session(
            identity,
            Greeting(_description(config), config.advertise_addr),
            outbox,
            worker,
            assign=assign,
            open_tunnel=Tunnels(worker, images, runtime).open,
        )
        registry.register(AgentCollector(worker, session))
        stack.enter_context(serve_metrics(config.metrics_addr, registry))
        await worker.adopted()
        group.create_task(session.run())


async def _assign(
    assigned: Assigned, identity: Identity, worker: Worker, overlays: Overlays, outbox: Outbox
) -> None:
    """Networks first, so that tasks find theirs; then tasks; then say so."""
    await overlays.assign(assigned.overlays, assigned.removed_overlays, full=assigned.full)
    worker.assign(assigned, identity.node_id)
    outbox.acknowledge(assigned.revision)


async def _identity(config: Config) -> Identity:
    path = config.state_dir / "identity.json"
    if identity := Identity.load(path):
        identity.learn(config.controllers)
        return identity
    if not config.controllers or not config.join_token:
        raise InvalidArgument(
            "this host has not joined a fleet: give --controller HOST:PORT and --join-token TOKEN"
            " (`pyswarm swarm join-token worker` prints both)"
        )
    return await join(
        path,
        Joining(
            config.join_token,
            config.controllers,
            _description(config),
            config.advertise_addr,
            config.availability,
        ),
    )


def _description(config: Config) -> NodeDescription:
    machine = platform.machine()
    return NodeDescription(
        hostname=config.hostname,
        platform=Platform(architecture=_ARCHITECTURES.get(machine, machine)),
        resources=NodeResources(nano_cpus=config.nano_cpus, memory_bytes=config.memory_bytes),
        engine_version=VERSION,
        engine_labels=config.labels,
    )


def _image_settings(config: Config) -> ImageSettings:
    return ImageSettings(
        root=config.state_dir / "storage",
        run_root=config.run_dir / "storage",
        work=config.state_dir / "pulls",
        insecure_registries=config.insecure_registries,
        mirrors=config.registry_mirrors,
    )
