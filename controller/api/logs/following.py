"""Following the logs of tasks. SHELL.

What was written before is merged by time first. Then there is one tunnel per node and round of
tasks, lines are sent as they arrive, and a broken stream is resumed after its last line.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing

from msgspec.structs import replace

from controller.api.logs.details import TaskDetails
from controller.api.logs.merging import frames, send_written
from controller.api.logs.parts import (
    UNSTORED,
    LogPart,
    behind,
    options,
    warning,
)
from controller.api.logs.sources import LogSource, LogSources, log_sources, require_stored
from controller.api.streams import Send
from controller.leader.exchanges import LogsOptions
from controller.leader.leadership import Leader
from controller.leader.watches import Watcher
from pyswarm_core.clock import Instant, seconds
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.logs.lines import LogLines, LogPlace
from pyswarm_core.views import LogsQuery

FOLLOWED_MAX = 256
LOOK_FOR_TASKS_EVERY_S = 0.2
RETRY_AFTER_S = 1.0
_UNSTORED = NodeId("unstored")
"""Of the warning that has no node."""
UNTIL_GRACE_S = 5.0
"""Clocks of hosts differ: agents end by their own."""


class Follower:
    """Follows the tasks that exist and those that appear, until the service or task is gone."""

    def __init__(
        self, leader: Leader, query: LogsQuery, named_id: str, send: Send[LogPart]
    ) -> None:
        self._leader = leader
        self._query = query
        self._send = send
        self._named_id = named_id
        self._found = LogSources((), {}, ended=False)
        self._news = asyncio.Event()
        self._followed: set[TaskId] = set()
        self._places: dict[TaskId, LogPlace] = {}
        self._with_tail: frozenset[TaskId] = frozenset()
        """Tasks that existed before: the query's `tail` is about them."""
        self._warned: set[NodeId] = set()
        self._open = 0
        self._is_over = False
        self._details = TaskDetails()

    async def run(self, service_id: ServiceId, now: Instant) -> None:
        """Send lines until the service or task is gone, or until the query's end."""
        if not self._query.until:
            await self._follow_all(service_id)
            return
        left_s = seconds(max(self._query.until - now, 0))
        try:
            async with asyncio.timeout(left_s + UNTIL_GRACE_S), asyncio.TaskGroup() as group:
                ending = group.create_task(self._end_after(left_s))
                await self._follow_all(service_id)
                ending.cancel()
        except TimeoutError:
            return

    async def _end_after(self, left_s: float) -> None:
        await asyncio.sleep(left_s)
        self._is_over = True
        self._news.set()

    async def _follow_all(self, service_id: ServiceId) -> None:
        watches = self._leader.watches
        with watches.watching(service_id, log_sources, self._named_id) as watcher:
            self._found = (await watcher.next()).value
            require_stored(self._leader.state, self._named_id, self._found)
            await self._warn_of_missing()
            sources = await self._detailed(self._found.sources)
            self._with_tail = self._found.absent.union(source.task_id for source in sources)
            self._places = await send_written(
                self._leader, sources, self._query, self._warned, self._send
            )
            self._news.set()
            async with asyncio.TaskGroup() as readers:
                looking = readers.create_task(self._look(watcher))
                while True:
                    await self._news.wait()
                    self._news.clear()
                    if not self._is_over:
                        for node_id, new in await self._new():
                            self._open += 1
                            readers.create_task(self._follow(node_id, new))
                    if self._open == 0 and (self._found.ended or self._is_over):
                        looking.cancel()
                        return
                    await asyncio.sleep(LOOK_FOR_TASKS_EVERY_S)

    async def _look(self, watcher: Watcher[LogSources]) -> None:
        """Look for tasks that are not followed yet, at every change."""
        while True:
            self._found = (await watcher.next()).value
            self._news.set()

    async def _warn_of_missing(self) -> None:
        for node_id, missing in self._found.missing.items():
            await self._warn(node_id, missing)
        if self._found.unstored:
            await self._warn(_UNSTORED, UNSTORED)

    async def _detailed(self, sources: Sequence[LogSource]) -> Sequence[LogSource]:
        """The sources, with details if they are requested."""
        if not self._query.details:
            return sources
        work = self._details.added(self._leader.state, sources)
        return await self._leader.watches.runner.run(work)

    async def _new(self) -> list[tuple[NodeId, Sequence[LogSource]]]:
        await self._warn_of_missing()
        # Those that are resumed apart from those that are begun.
        by_node: dict[tuple[NodeId, bool], list[LogSource]] = defaultdict(list)
        for source in self._found.sources:
            if source.task_id not in self._followed:
                is_begun = source.task_id in self._with_tail - self._places.keys()
                by_node[source.node_id, is_begun].append(source)
        room = FOLLOWED_MAX - self._open
        if len(by_node) > room:
            text = f"more than {FOLLOWED_MAX} streams: some tasks are not followed yet"
            await self._warn(NodeId(""), text)
        taken = [(node_id, sources) for (node_id, _), sources in by_node.items()][:room]
        self._followed.update(source.task_id for _, sources in taken for source in sources)
        return [(node_id, await self._detailed(sources)) for node_id, sources in taken]

    def _request(self, sources: Sequence[LogSource]) -> LogsOptions:
        requested = options(sources, self._query)
        if sources[0].task_id in self._with_tail - self._places.keys():
            return requested
        # Of a task that appeared: its beginning.
        places = tuple(self._places.get(source.task_id, LogPlace()) for source in sources)
        return replace(requested, places=places)

    async def _follow(self, node_id: NodeId, sources: Sequence[LogSource]) -> None:
        """Send the lines of these tasks of one node, each after its place."""
        requested = self._request(sources)
        by_id = {source.task_id: source for source in sources}
        try:
            async with aclosing(frames(self._leader, node_id, requested, None)) as read:
                async for lines in read:
                    self._warned.discard(node_id)
                    if source := by_id.get(TaskId(lines.task_id)):
                        await self._pass_on(source, lines)
        except PyswarmError as error:
            await self._warn(node_id, warning(sources[0], error))
            await asyncio.sleep(RETRY_AFTER_S)
            self._followed.difference_update(source.task_id for source in sources)
        finally:
            self._open -= 1
            self._news.set()

    async def _pass_on(self, source: LogSource, lines: LogLines) -> None:
        if lines.at:
            await self._send(LogPart((source.shown,), lines=lines))
        place = self._places.get(source.task_id, LogPlace())
        self._places[source.task_id] = behind(place, lines)

    async def _warn(self, node_id: NodeId, warning: str) -> None:
        if node_id not in self._warned:
            self._warned.add(node_id)
            await self._send(LogPart(warning=warning))
