"""The description of this host in the hello, the first message of every session. SHELL.

The kernel is examined again for each session: a missing module may have been loaded since. On a
busy host that can take longer than a controller waits for the hello.
"""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from agent.config import Config
from agent.network.base import NetworkFailed
from agent.overlays.closing import listen_addrs
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.images.platforms import ARCHITECTURES
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import NodeDescription, NodeResources, Platform
from pyswarm_core.states import Capability
from pyswarm_core.version import version

_log = EventLog("agent.session.greeting")

EXAMINE_S = 1.0
"""The wait for the kernel, a tenth of what a controller allows for the hello."""


class Greeting(msgspec.Struct, frozen=True):
    """The description of this host in the hello."""

    description: NodeDescription
    addr: str
    addrs6: tuple[str, ...] = ()


def description_of(config: Config, lacks: Iterable[Capability]) -> NodeDescription:
    """The description by the settings, of a host that lacks these capabilities."""
    machine = platform.machine()
    return NodeDescription(
        hostname=config.hostname,
        platform=Platform(architecture=ARCHITECTURES.get(machine, machine)),
        resources=NodeResources(
            config.nano_cpus, config.memory_bytes, config.node_generic_resources
        ),
        engine_version=version(),
        protocol=PROTOCOL,
        engine_labels=config.labels,
        lacks=tuple(sorted(lacks)),
        max_tasks=config.max_tasks,
        metrics_addrs=listen_addrs(
            (config.metrics_addr, config.health_addr), config.advertise_addr
        ),
    )


class Greetings:
    """The greeting as of now, or the last one if the kernel does not answer within EXAMINE_S."""

    def __init__(
        self, examine: Callable[[], Awaitable[Greeting]], group: asyncio.TaskGroup
    ) -> None:
        self._examine = examine
        self._group = group
        self._last: Greeting | None = None
        self._running: asyncio.Task[None] | None = None

    async def current(self) -> Greeting:
        """The greeting of the next session. Only the first call waits until there is one."""
        while True:
            if self._running is None or self._running.done():
                self._running = self._group.create_task(self._refresh())
            await asyncio.wait({self._running}, timeout=EXAMINE_S)
            if self._last is not None:
                return self._last

    async def _refresh(self) -> None:
        try:
            self._last = await self._examine()
        except NetworkFailed as error:
            _log.warning("host.not_examined", error=error)
            await asyncio.sleep(EXAMINE_S)
