"""Logs of tasks as frames of tunnels. SHELL."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import zip_longest
from pathlib import Path

from msgspec.structs import replace

from agent.runtime.base import Runtime
from agent.runtime.logs.lines import Lines
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from agent.worker import Worker
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.ids import TaskId
from pyswarm_core.logs.lines import LogPlace
from pyswarm_core.logs.patterns import pattern

Put = Callable[[dispatcher_pb2.TunnelFrame], Awaitable[None]]


class Logs:
    """Reads the logs of this host's tasks for the controller's users."""

    def __init__(self, worker: Worker, runtime: Runtime) -> None:
        self._worker = worker
        self._runtime = runtime

    async def send(self, options: dispatcher_pb2.LogsOptions, put: Put) -> None:
        """Send the lines of the tasks. Raises InvalidArgument for a pattern."""
        matches = pattern("grep", options.grep) if options.grep else None
        query = LogQuery(
            tail=options.tail,
            since_ns=options.since,
            until_ns=options.until,
            matches=matches,
            follow=options.follow,
        )
        async with asyncio.TaskGroup() as group:
            for task_id, place in zip_longest(options.task_ids, options.places):
                own = query
                if place is not None:
                    own = replace(query, place=from_proto(LogPlace, place))
                group.create_task(self._read(TaskId(task_id), own, put))

    async def _read(self, task_id: TaskId, query: LogQuery, put: Put) -> None:
        ended = self._worker.ended(task_id)
        log = Path(self._runtime.log_path(task_id))
        # Closed here: a reader that waits for a full queue would keep the file open.
        async with aclosing(read_log(log, query, ended)) as batches:
            async for lines in batches:
                await put(_frame(task_id, lines))


def _frame(task_id: TaskId, lines: Lines) -> dispatcher_pb2.TunnelFrame:
    columns = dispatcher_pb2.LogLines(
        task_id=task_id,
        at=lines.at,
        marks=bytes(lines.marks),
        texts=lines.texts,
        position=lines.position,
    )
    return dispatcher_pb2.TunnelFrame(log_lines=columns)
