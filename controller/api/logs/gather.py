"""Reads the logs of a service or task from their nodes. SHELL.

Without `follow` tasks are read in groups, each task through a tunnel of its own, and the lines of a
group are merged by their time. With `follow` there is one tunnel per node and round of new tasks,
lines are sent as they arrive, and a broken stream is resumed after its last line. A node that does
not answer costs a warning and a bounded wait; the other nodes' lines are sent.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from controller.api.logs.sources import LogSource, LogSources, log_sources
from controller.api.queries.lookup import find_service_or_task
from controller.api.streams import Send
from controller.leader.exchanges import LOGS, LogsOptions
from controller.leader.leadership import Leader, Leadership
from controller.leader.watches import Watcher
from pyswarm_core.clock import Instant
from pyswarm_core.docker.logdrivers import NONE, UNREADABLE, driver_of
from pyswarm_core.errors import Conflict, PyswarmError
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.views import LogLine

Lines = Sequence[LogLine]

MERGED_AT_ONCE = 32
"""Tunnels of one reader; also within what one agent serves at once."""
FOLLOWED_MAX = 256
READ_TIMEOUT_S = 10.0
LOOK_FOR_TASKS_EVERY_S = 0.2
RETRY_AFTER_S = 1.0
ANY_TIME = Instant(0)


class LogsQuery(msgspec.Struct, frozen=True):
    """The logs to read. Has the fields of the request's message."""

    ref: str
    follow: bool = False
    tail: int = -1
    """The last lines of each task, at most so many; all if negative."""
    since: Instant = ANY_TIME


class LogPart(msgspec.Struct, frozen=True):
    """Lines of one task, or a warning that some are missing."""

    task_id: str = ""
    task_name: str = ""
    node_name: str = ""
    lines: Lines = ()
    """As the agent sent them: logs are a hot path."""
    warning: str = ""


async def send_logs(leadership: Leadership, query: LogsQuery, send: Send[LogPart]) -> None:
    """Send the lines, and a warning for every node whose lines are missing.

    Raises NotFound, Conflict if no lines are stored, and Unavailable when leadership is lost while
    following.
    """
    leader = leadership.current()
    runner = leader.watches.runner
    named = await runner.run(find_service_or_task(leader.state, query.ref))
    _require_stored(leader.state.services.get(_service_of(named)))
    if query.follow:
        await _Follower(leader, query, named.id, send).run(_service_of(named))
        return
    found = (await runner.run(log_sources(leader.state, named.id, ANY_TIME))).value
    for missing in found.missing.values():
        await send(LogPart(warning=missing))
    warned: set[NodeId] = set()
    for start in range(0, len(found.sources), MERGED_AT_ONCE):
        group = found.sources[start : start + MERGED_AT_ONCE]
        await _send_merged(leader, group, query, warned, send)


def _require_stored(service: Service | None) -> None:
    """Raises Conflict if the lines of its tasks are not stored."""
    if service and driver_of(service.spec.task_template.log_driver) == NONE:
        raise Conflict(UNREADABLE)


async def _send_merged(
    leader: Leader,
    sources: Sequence[LogSource],
    query: LogsQuery,
    warned: set[NodeId],
    send: Send[LogPart],
) -> None:
    feeds = [_Feed(source) for source in sources]
    async with asyncio.TaskGroup() as readers:
        for feed in feeds:
            readers.create_task(feed.fill(leader, query))
        async for source, lines in _merged(feeds):
            await send(_told(source, lines))
    for feed in feeds:
        if feed.warning and feed.source.node_id not in warned:
            warned.add(feed.source.node_id)
            await send(LogPart(warning=feed.warning, node_name=feed.source.node_name))


class _Feed:
    """One task's lines, read by a task of its own one frame ahead of the merge."""

    def __init__(self, source: LogSource) -> None:
        self.source = source
        self.warning = ""
        self._frames: asyncio.Queue[Lines] = asyncio.Queue(1)

    async def fill(self, leader: Leader, query: LogsQuery) -> None:
        """Read to the end; an error becomes the warning."""
        options = _options([self.source], query)
        try:
            async for lines in _frames(leader, self.source.node_id, options, READ_TIMEOUT_S):
                await self._frames.put(lines)
        except PyswarmError as error:
            self.warning = _warning(self.source, error)
        await self._frames.put(())

    async def next(self) -> Lines:
        """The next lines, empty at the end."""
        return await self._frames.get()


async def _merged(feeds: Sequence[_Feed]) -> AsyncIterator[tuple[LogSource, Lines]]:
    """Runs of lines of one task each, ordered by the time of their lines."""
    heads: list[tuple[int, int, int, Lines]] = []
    for number, feed in enumerate(feeds):
        lines = await feed.next()
        if lines:
            heads.append((lines[0].at, number, 0, lines))
    heapify(heads)
    while heads:
        _, number, position, lines = heads[0]
        end = _end_of_run(heads, lines, position)
        yield feeds[number].source, lines[position:end]
        if end == len(lines):
            lines, end = await feeds[number].next(), 0
        if lines:
            heapreplace(heads, (lines[end].at, number, end, lines))
        else:
            heappop(heads)


def _end_of_run(heads: Sequence[tuple[int, int, int, Lines]], lines: Lines, start: int) -> int:
    """The first index at which the task's lines are not older than all others' next ones."""
    others = min((head[0] for head in heads[1:3]), default=None)
    if others is None:
        return len(lines)
    end = start + 1
    while end < len(lines) and lines[end].at <= others:
        end += 1
    return end


class _Place(NamedTuple):
    """A position in a task's log: after so many lines of that instant. Lines written together have
    the same instant.
    """

    at: int = 0
    lines: int = 0


def _behind(place: _Place, lines: Lines) -> _Place:
    """The position after these lines, which follow `place`."""
    at = lines[-1].at
    return _Place(at, sum(line.at == at for line in lines) + place.lines * (at == place.at))


class _Follower:
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
        self._last: dict[TaskId, _Place] = {}
        self._resumed: dict[TaskId, _Place] = {}
        """Lines that are sent again after a broken stream, and were sent to the reader before."""
        self._warned: set[NodeId] = set()
        self._open = 0
        self._first = True

    async def run(self, service_id: ServiceId) -> None:
        """Look for tasks that are not followed yet, periodically."""
        watches = self._leader.watches
        with watches.watching(service_id, log_sources, self._named_id) as watcher:
            async with asyncio.TaskGroup() as readers:
                looking = readers.create_task(self._look(watcher))
                while True:
                    await self._news.wait()
                    self._news.clear()
                    for node_id, sources in await self._new():
                        self._open += 1
                        readers.create_task(self._follow(node_id, sources, self._first))
                    self._first = False
                    if self._open == 0 and self._found.ended:
                        looking.cancel()
                        return
                    await asyncio.sleep(LOOK_FOR_TASKS_EVERY_S)

    async def _look(self, watcher: Watcher[LogSources]) -> None:
        while True:
            self._found = (await watcher.next()).value
            self._news.set()

    async def _new(self) -> list[tuple[NodeId, list[LogSource]]]:
        for node_id, missing in self._found.missing.items():
            await self._warn(node_id, missing)
        by_node: dict[NodeId, list[LogSource]] = defaultdict(list)
        for source in self._found.sources:
            if source.task_id not in self._followed:
                by_node[source.node_id].append(source)
        room = FOLLOWED_MAX - self._open
        if len(by_node) > room:
            text = f"more than {FOLLOWED_MAX} streams: some tasks are not followed yet"
            await self._warn(NodeId(""), text)
        taken = list(by_node.items())[:room]
        self._followed.update(source.task_id for _, sources in taken for source in sources)
        return taken

    async def _follow(self, node_id: NodeId, sources: Sequence[LogSource], first: bool) -> None:
        """Send the lines of these tasks of one node; of tasks found later from their beginning."""
        options = _options(sources, self._query)
        if not first:
            resumed = [self._resumed.get(source.task_id, _Place()) for source in sources]
            since = max(options.since, Instant(min(place.at for place in resumed)))
            options = replace(options, tail=-1, since=since)
        try:
            async with aclosing(_frames(self._leader, node_id, options, None)) as frames:
                async for lines in frames:
                    await self._pass_on(sources, lines)
        except PyswarmError as error:
            await self._warn(node_id, _warning(sources[0], error))
            await asyncio.sleep(RETRY_AFTER_S)
            self._forget(sources)
        finally:
            self._open -= 1
            self._news.set()

    def _forget(self, sources: Sequence[LogSource]) -> None:
        """Resume them in the next round, after their last line."""
        for source in sources:
            self._followed.discard(source.task_id)
            if source.task_id in self._last:
                self._resumed[source.task_id] = self._last[source.task_id]

    async def _pass_on(self, sources: Sequence[LogSource], lines: Lines) -> None:
        by_id = {source.task_id: source for source in sources}
        for task_id, run in _runs(lines):
            new = self._unseen(task_id, run)
            if task_id in by_id and new:
                await self._send(_told(by_id[task_id], new))
                self._last[task_id] = _behind(self._last.get(task_id, _Place()), new)

    def _unseen(self, task_id: TaskId, run: Lines) -> Lines:
        place = self._resumed.pop(task_id, None)
        if place is None:
            return run
        kept = []
        for line in run:
            if line.at > place.at or (line.at == place.at and not place.lines):
                kept.append(line)
            elif line.at == place.at:
                place = place._replace(lines=place.lines - 1)
        if not run[-1].at > place.at:
            self._resumed[task_id] = place
        return kept

    async def _warn(self, node_id: NodeId, warning: str) -> None:
        if node_id not in self._warned:
            self._warned.add(node_id)
            await self._send(LogPart(warning=warning))


async def _frames(
    leader: Leader, node_id: NodeId, options: LogsOptions, timeout_s: float | None
) -> AsyncGenerator[Lines, None]:
    async with leader.tunnels.open(node_id, LOGS, options) as tunnel:
        while (lines := await tunnel.read(timeout_s)) is not None:
            if lines:
                yield lines


def _service_of(named: Service | Task) -> ServiceId:
    return named.service_id if isinstance(named, Task) else named.id


def _options(sources: Iterable[LogSource], query: LogsQuery) -> LogsOptions:
    return LogsOptions(
        task_ids=tuple(source.task_id for source in sources),
        follow=query.follow,
        tail=query.tail,
        since=query.since,
    )


def _runs(lines: Lines) -> Iterable[tuple[TaskId, Lines]]:
    start = 0
    for end in range(1, len(lines) + 1):
        if end == len(lines) or lines[end].task_id != lines[start].task_id:
            yield TaskId(lines[start].task_id), lines[start:end]
            start = end


def _told(source: LogSource, lines: Lines) -> LogPart:
    return LogPart(
        task_id=source.task_id,
        task_name=source.task_name,
        node_name=source.node_name,
        lines=lines,
    )


def _warning(source: LogSource, error: PyswarmError) -> str:
    return f"logs of node {source.node_name} are missing: {error}"
