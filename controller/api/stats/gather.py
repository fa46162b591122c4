"""What the containers of the fleet use, sampled by their agents. SHELL.

One tunnel per node brings a sample per period, which is sent as it arrives. Every two seconds the
nodes with tasks are looked up again: new tasks join, and a node that does not answer costs one
warning until it answers again.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from controller.api.queries.lookup import Sees, container_id, task_name
from controller.api.stats.sources import Targets, named_targets, stats_sources
from controller.api.streams import Send, while_leading
from controller.leader.exchanges import STATS, StatsOptions
from controller.leader.leadership import Leader, Leadership
from pyswarm_core.clock import SECOND
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.limits import STATS_NODES_MAX
from pyswarm_core.objects import Node, Task
from pyswarm_core.state import State
from pyswarm_core.states import is_terminal
from pyswarm_core.views import TaskStats

PERIOD = SECOND
LOOK_FOR_NODES_EVERY_S = 2.0
READ_TIMEOUT_S = 10.0
NODES_AT_ONCE = 32
"""Nodes of a request without `follow` that are read at once."""


class StatsQuery(msgspec.Struct, frozen=True):
    """The containers to sample. Has the fields of the request's message."""

    refs: tuple[str, ...] = ()
    all: bool = False
    follow: bool = False


class Named(msgspec.Struct, frozen=True):
    """A task and its sample."""

    task_id: TaskId
    name: str
    node_name: str
    container_id: str
    """As `ps` shows it."""
    stats: TaskStats | None = None
    """As the agent sent it; None: its container does not run."""


class StatsPart(msgspec.Struct, frozen=True):
    """A sample of one node, or a warning that it is missing. Without a node: the tasks that do not
    run.
    """

    node_name: str = ""
    tasks: Sequence[Named] = ()
    warning: str = ""


async def send_stats(
    leadership: Leadership, query: StatsQuery, sees: Sees, send: Send[StatsPart]
) -> None:
    """Send the samples of every node: two of each, with `follow` one per second.

    Raises NotFound, and Unavailable when leadership is lost.
    """
    leader = leadership.current()
    targets = await leader.watches.runner.run(named_targets(leader.state, query.refs))
    gatherer = _Gatherer(leader, query, targets, sees, send)
    if not query.follow:
        await gatherer.once()
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(while_leading(leadership, leader))
        await gatherer.follow(group)


class _Gatherer:
    """Reads the nodes of one request."""

    def __init__(
        self,
        leader: Leader,
        query: StatsQuery,
        targets: Targets,
        sees: Sees,
        send: Send[StatsPart],
    ) -> None:
        self._leader = leader
        self._query = query
        self._targets = targets
        self._sees = sees
        self._send = send
        self._open: set[NodeId] = set()
        self._wanted: set[NodeId] = set()
        """The nodes that have tasks of the request."""
        self._warned: set[NodeId] = set()
        self._options = StatsOptions(
            task_ids=tuple(targets.tasks),
            service_ids=tuple(targets.services),
            period=PERIOD,
            samples=0 if query.follow else 2,
        )

    async def once(self) -> None:
        """Read two samples of every node."""
        turns = asyncio.Semaphore(NODES_AT_ONCE)

        async def one(node: Node) -> None:
            async with turns:
                await self._read(node)

        async with asyncio.TaskGroup() as group:
            for node in await self._look():
                group.create_task(one(node))

    async def follow(self, group: asyncio.TaskGroup) -> None:
        """Read every node for as long as it has tasks, also those that get some."""
        while True:
            nodes = await self._look()
            if not nodes and not self._query.all:
                await self._send(StatsPart())  # nothing runs: the caller need not wait
            for node in nodes:
                if node.id not in self._open and len(self._open) < STATS_NODES_MAX:
                    self._open.add(node.id)
                    group.create_task(self._read(node))
            await asyncio.sleep(LOOK_FOR_NODES_EVERY_S)

    async def _look(self) -> Sequence[Node]:
        """The nodes to read. Sends warnings about those that cannot be read, and idle tasks."""
        state, idle = self._leader.state, self._query.all
        work = stats_sources(state, self._targets, self._sees, idle=idle)
        found = await self._leader.watches.runner.run(work)
        for node_id, text in found.missing.items():
            if (node := state.nodes.get(node_id)) is not None:
                await self._warn(node_id, node.description.hostname, text)
        if self._query.follow and len(found.nodes) > STATS_NODES_MAX:
            shown_of = f"{STATS_NODES_MAX} of them are shown: name services or tasks"
            text = f"{len(found.nodes)} nodes have such tasks: {shown_of}"
            await self._warn(NodeId(""), "", text)
        self._wanted = {node.id for node in found.nodes}
        if idle:
            shown = [self._idle(task_id) for task_id in found.idle]
            await self._send(StatsPart(tasks=[one for one in shown if one is not None]))
        return found.nodes

    def _idle(self, task_id: TaskId) -> Named | None:
        state = self._leader.state
        if (task := state.tasks.get(task_id)) is None:
            return None
        node = state.nodes.get(task.node_id)
        return _named(state, task, node.description.hostname if node else "")

    async def _read(self, node: Node) -> None:
        hostname = node.description.hostname
        try:
            async with self._leader.tunnels.open(node.id, STATS, self._options) as tunnel:
                while (stats := await tunnel.read(READ_TIMEOUT_S)) is not None:
                    self._warned.discard(node.id)
                    await self._send(StatsPart(hostname, self._named(node, stats)))
                    if self._query.follow and node.id not in self._wanted:
                        break  # its last task ended
            if self._query.follow:
                await self._send(StatsPart(hostname))  # nothing of it is shown any more
        except PyswarmError as error:
            await self._warn(node.id, hostname, f"stats of node {hostname} are missing: {error}")
        finally:
            self._open.discard(node.id)

    def _named(self, node: Node, stats: Sequence[TaskStats]) -> Sequence[Named]:
        """The tasks of the node that the caller may see, in the agent's order."""
        state, hostname = self._leader.state, node.description.hostname
        found = []
        for one in stats:
            task = state.tasks.get(TaskId(one.task_id))
            # An agent is not trusted with tasks of others.
            if task is None or task.node_id != node.id or not self._targets.has(task):
                continue
            if not is_terminal(task.state) and self._sees(state, task.id):
                found.append(_named(state, task, hostname, one))
        return found

    async def _warn(self, node_id: NodeId, hostname: str, warning: str) -> None:
        if node_id not in self._warned:
            self._warned.add(node_id)
            await self._send(StatsPart(hostname, warning=warning))


def _named(state: State, task: Task, hostname: str, stats: TaskStats | None = None) -> Named:
    container = container_id(state, task)
    return Named(task.id, task_name(state, task), hostname, container, stats)
