"""Collects the facts that `net trace` requests of one end of a path. SHELL.

Reads the kernel and sends probes; changes nothing. Invariant: a probe of a task that is not on this
host is an error, never a fact.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from msgspec.structs import replace

from agent.images.base import Images
from agent.network.base import Drift, NetworkFailed
from agent.network.names import Names
from agent.network.netlink import Netlink
from agent.network.netns import Namespaces
from agent.network.trace import look
from agent.network.trace.differences import of_plan, of_route
from agent.network.trace.probes import Probes
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.traces import CLOSED, Attempt, Facts, TraceProbe

T = TypeVar("T")
AT_ONCE = 4
"""Probes take seconds, and each occupies a thread."""
Exposed = Callable[[TaskId, str], Awaitable[Sequence[int]]]


class Running(Protocol):
    """What has an image."""

    @property
    def image_id(self) -> str:
        """Its id."""
        ...


async def exposed(task: Running | None, protocol: str, images: Images) -> tuple[int, ...]:
    """The ports of the protocol that the task's image exposes."""
    stored = (await images.stored()).images
    found = [image for image in stored if task and image.id == task.image_id]
    ports = [port.partition("/") for image in found for port in image.config.exposed_ports]
    return tuple(int(number) for number, _, named in ports if (named or "tcp") == protocol)


class Checks(Protocol):
    """The part of the dataplane that traces need."""

    async def check(self) -> tuple[Drift, ...]:
        """The differences between the kernel and the dataplane's plan."""
        ...

    async def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """The backends to which the task's namespace forwards connections to a virtual address."""
        ...


class Tracer:
    """Traces paths of this host's tasks. The owner closes it."""

    def __init__(
        self,
        checks: Checks,
        namespaces: Namespaces,
        names: Names,
        programmed: Callable[[], int],
        exposed: Exposed,
        *,
        closes: Callable[[str, int], bool] = lambda address, port: False,
    ) -> None:
        """`programmed` returns the revision of which the kernel is configured, `exposed` the ports
        of a protocol that a task's image exposes, `closes` whether a port is closed to tasks.
        """
        self._checks = checks
        self._spaces = namespaces
        self._names = names
        self._programmed = programmed
        self._exposed = exposed
        self._closes = closes
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="trace")

    def close(self) -> None:
        """Wait for running probes."""
        self._pool.shutdown()

    async def trace(self, probe: TraceProbe) -> Facts:
        """Carry out the probe. Raises NotFound, or Unavailable if the kernel refuses."""
        task_id = TaskId(probe.task_id)
        if not self._spaces.exists(task_id):
            raise NotFound(f"task {task_id} has no network namespace on this host")
        facts, probes = Facts(revision=self._programmed()), Probes(self._spaces, task_id)
        try:
            if name := probe.name:
                facts = replace(facts, name=await self._run(lambda: probes.ask_name(name)))
            answers = facts.name.addresses if facts.name else (probe.vip,)
            for vip in filter(None, answers[:1]):
                backends = await self._checks.backends(task_id, vip)
                facts = replace(facts, backends=backends or ())
            if probe.listeners:
                exposed = await self._exposed(task_id, "udp" if probe.udp else "tcp")
                facts = replace(facts, exposed_ports=tuple(exposed))
            drifts = () if probe.connect_to else await self._checks.check()
            return await self._run(lambda: self._probe(facts, probes, probe, drifts))
        except (NetworkFailed, FileNotFoundError) as error:
            raise Unavailable(f"cannot probe on this host: {error}") from error

    def _probe(
        self, facts: Facts, probes: Probes, probe: TraceProbe, drifts: Sequence[Drift]
    ) -> Facts:
        network_id, address = NetworkId(probe.network_id), probe.address
        differences = [*of_plan(drifts, self._names, probes.task_id, network_id)]
        if address:
            with self._spaces.inside(probes.task_id) as inside, Netlink() as outside:
                task, host = look.route(inside, address), look.route(outside, address)
            differences += of_route(host, self._names, network_id, address)
            echo = probes.echo(address)
            facts = replace(
                facts, task_route=str(task), host_route=str(host), echo=echo,
                full_echo=None if echo.error else probes.echo(address, task.mtu),
                dropping=look.dropping(self._names.table),
            )  # fmt: skip
        if probe.listeners:
            facts = replace(facts, listeners=probes.listeners(udp=probe.udp))
        connections = [self._connect(probes, to, probe) for to in probe.connect_to]
        return replace(facts, differences=tuple(differences), connections=tuple(connections))

    def _connect(self, probes: Probes, to: str, probe: TraceProbe) -> Attempt:
        tried = probes.connect(to, probe.port, udp=probe.udp)
        if not tried.error or probe.udp or not self._closes(to, probe.port):
            return tried
        return replace(tried, error=f"{tried.error}: {CLOSED}")

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
