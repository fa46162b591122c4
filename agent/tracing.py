"""Answers what the controller asks of one end of a way through a network. SHELL.

Reads the kernel and tries things for real, changes nothing. Invariant: a probe of a task that is
not here, or no longer, is an error and never a fact.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec.structs import replace

from agent.network.base import NetworkFailed
from agent.network.dataplane import KernelDataplane
from agent.network.netns import Namespaces
from agent.network.trace import attempts
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.traces import ConnectionFact, Facts, Probe

T = TypeVar("T")
AT_ONCE = 4
"""Probes wait for seconds; each holds a thread."""


class Tracer:
    """Traces ways of this host's tasks. Close it when done."""

    def __init__(
        self,
        dataplane: KernelDataplane,
        namespaces: Namespaces,
        programmed: Callable[[], int],
        exposed: Callable[[TaskId], Awaitable[Sequence[int]]],
    ) -> None:
        """`programmed` tells the newest revision that the kernel follows, `exposed` the TCP ports
        that a task's image names.
        """
        self._dataplane = dataplane
        self._spaces = namespaces
        self._programmed = programmed
        self._exposed = exposed
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="trace")

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown()

    async def trace(self, probe: Probe) -> Facts:
        """Do all that the probe asks for. Raises NotFound, or Unavailable if the kernel refuses."""
        task_id = TaskId(probe.task_id)
        if not self._spaces.exists(task_id):
            raise NotFound(f"task {task_id} has no network namespace on this host")
        try:
            return await self._facts(task_id, probe)
        except (NetworkFailed, FileNotFoundError) as error:
            raise Unavailable(f"this host cannot look: {error}") from error

    async def _facts(self, task_id: TaskId, probe: Probe) -> Facts:
        facts = Facts(revision=self._programmed())
        if probe.name or probe.vip:
            facts = replace(facts, rules=await self._dataplane.look_at_rules(task_id, probe.vip))
        if name := probe.name:
            answer = await self._run(lambda: attempts.ask_name(self._spaces, task_id, name))
            facts = replace(facts, name=answer)
        if probe.address:
            facts = await self._way(facts, task_id, probe)
        if probe.listeners:
            listeners = await self._run(lambda: attempts.listening_on(self._spaces, task_id))
            exposed = tuple(await self._exposed(task_id))
            facts = replace(facts, listeners=listeners, exposed_ports=exposed)
        for address in probe.connect_to:
            tried = await self._connect(task_id, address, probe.port)
            facts = replace(facts, connections=(*facts.connections, tried))
        return facts

    async def _way(self, facts: Facts, task_id: TaskId, probe: Probe) -> Facts:
        network_id, address = NetworkId(probe.network_id), probe.address
        checks, mtu = await self._dataplane.look(task_id, network_id, address)
        dropping = await self._dataplane.dropping()
        echo = await self._run(lambda: attempts.echo(self._spaces, task_id, address))
        facts = replace(facts, checks=checks, dropping=dropping, echo=echo)
        if echo.answered:
            full = await self._run(lambda: attempts.echo(self._spaces, task_id, address, mtu))
            facts = replace(facts, full_echo=full)
        return facts

    async def _connect(self, task_id: TaskId, address: str, port: int) -> ConnectionFact:
        return await self._run(lambda: attempts.connect(self._spaces, task_id, address, port))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
