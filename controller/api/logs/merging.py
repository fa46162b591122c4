"""What tasks have written so far, merged by time. SHELL.

Each task is read through a tunnel of its own, by a task one frame ahead of the merge.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from controller.api.logs.parts import (
    LogPart,
    behind,
    cut,
    merged,
    options,
    warning,
)
from controller.api.logs.sources import LogSource
from controller.api.streams import Send
from controller.leader.exchanges import LOGS, LogsOptions
from controller.leader.leadership import Leader
from pyswarm_core.errors import Exhausted, PyswarmError
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.logs.lines import LogLines, LogPlace
from pyswarm_core.views import LogsQuery

MERGED_AT_ONCE = 64
"""Tunnels of one reader; tasks beyond are merged after these."""
READ_TIMEOUT_S = 10.0
_NOTHING = LogLines()


async def send_written(
    leader: Leader,
    sources: Sequence[LogSource],
    query: LogsQuery,
    warned: set[NodeId],
    send: Send[LogPart],
) -> dict[TaskId, LogPlace]:
    """Send what the tasks have written, and a warning for every node whose lines are missing; where
    it ends in each log that could be read.

    Raises Exhausted if there is one node, which has too many readers.
    """
    places: dict[TaskId, LogPlace] = {}
    for start in range(0, len(sources), MERGED_AT_ONCE):
        feeds = [_Feed(source) for source in sources[start : start + MERGED_AT_ONCE]]
        await _send_merged(leader, feeds, replace(query, follow=False), send)
        for feed in feeds:
            if feed.place is not None:
                places[feed.source.task_id] = feed.place
            node_id = feed.source.node_id
            if feed.error is None or node_id in warned:
                continue
            text = warning(feed.source, feed.error)
            if isinstance(feed.error, Exhausted) and len({one.node_id for one in sources}) == 1:
                raise Exhausted(text)
            warned.add(node_id)
            await send(LogPart(warning=text))
    return places


async def _send_merged(
    leader: Leader, feeds: Sequence["_Feed"], query: LogsQuery, send: Send[LogPart]
) -> None:
    async with asyncio.TaskGroup() as readers:
        for feed in feeds:
            readers.create_task(feed.fill(leader, query))
        async for part in _merged(feeds):
            await send(part)


class _Feed:
    """One task's lines."""

    def __init__(self, source: LogSource) -> None:
        self.source = source
        self.error: PyswarmError | None = None
        self.place: LogPlace | None = None
        self.head = _NOTHING
        self.position = 0
        self._frames: asyncio.Queue[LogLines] = asyncio.Queue(1)

    async def fill(self, leader: Leader, query: LogsQuery) -> None:
        """Read to the end, or to an error."""
        requested = options([self.source], query)
        try:
            async with aclosing(
                frames(leader, self.source.node_id, requested, READ_TIMEOUT_S)
            ) as read:
                async for lines in read:
                    self.place = behind(self.place or LogPlace(), lines)
                    if lines.at:
                        await self._frames.put(lines)
        except PyswarmError as error:
            self.error = error
        await self._frames.put(_NOTHING)

    async def load(self) -> bool:
        """Have the next lines in `head`; whether there are any."""
        if self.position == len(self.head.at):
            self.head, self.position = await self._frames.get(), 0
        return bool(self.head.at)

    def taken(self, end: int) -> LogLines:
        """The lines up to before `end`; the rest stays."""
        start, self.position = self.position, end
        return cut(self.head, start, end)


async def _merged(feeds: Sequence[_Feed]) -> AsyncIterator[LogPart]:
    """The lines of all feeds ordered by time: in each round those up to the last line of the feed
    whose frame ends first.
    """
    left = list(feeds)
    while True:
        left = [feed for feed in left if await feed.load()]
        if not left:
            return
        first = min(left, key=lambda feed: feed.head.at[-1])
        limit = first.head.at[-1]
        runs = []
        for feed in left:
            at = feed.head.at
            end = len(at) if feed is first else bisect_right(at, limit, feed.position)
            if end > feed.position:
                runs.append((feed.source.shown, feed.taken(end)))
        for part in merged(runs):
            yield part


async def frames(
    leader: Leader, node_id: NodeId, requested: LogsOptions, timeout_s: float | None
) -> AsyncGenerator[LogLines, None]:
    """The frames of one tunnel. Raises Unavailable, and what the agent refuses with."""
    async with leader.tunnels.open(node_id, LOGS, requested) as tunnel:
        while (lines := await tunnel.read(timeout_s)) is not None:
            yield lines
