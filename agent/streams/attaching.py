"""The stdio of a task's own program as a byte stream. SHELL.

The program goes on when its caller leaves.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress

from agent.runtime.base import Attachment, Runtime, RuntimeFailed
from agent.runtime.running.attachments import Attachments
from agent.streams.base import Link
from agent.tasks.ocispec_process import signal_number
from agent.tasks.record import Record
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.errors import Conflict, InvalidArgument, Unavailable
from pyswarm_core.streams.frames import (
    STDERR,
    STDIN,
    STDOUT,
    Detach,
    Exit,
    Frame,
    Resize,
    Signal,
    Started,
)
from pyswarm_core.streams.limits import STREAM_WINDOW_NODE
from pyswarm_core.streams.requests import AttachRequest

_POLL_S = 0.05
"""Between attempts to attach; a program that is to be attached to first waits for it."""
_EXIT_POLL_S = 0.005
"""Between looks at the record of a program that has just ended."""
_EARLY_FRAMES = 256
"""Kept of a caller while it waits for the program. The rest waits on the way."""
_ASSIGNED_WITHIN_S = 10.0
"""A task that the controller names reaches its agent in this time."""

Find = Callable[[], Record | None]
"""The task's record, as it is now."""


async def serve_attach(
    runtime: Runtime, attachments: Attachments, request: AttachRequest, find: Find, link: Link
) -> None:
    """Serve the caller until the program ends or the caller leaves. Raises Conflict if the program
    does not run, and is not to be waited for.
    """
    early: list[Frame] = []
    attachment = await _first(_attached(runtime, find, wait=request.wait), _hear(link, early))
    record = find()
    if attachment is None or record is None:
        if attachment is not None:
            attachment.close()
        await link.send(Exit() if Detach() in early else await _exit(find))
        return
    spec = record.spec.container_spec
    takes_stdin = request.stdin and spec.open_stdin
    if spec.tty and request.rows and request.columns:
        attachment.resize(request.rows, request.columns)
    conversation = _Conversation(runtime, record, attachment, _after(early, link))
    try:
        with attachments.attached(record.task_id):
            await link.send(Started(terminal=spec.tty, stdin=takes_stdin))
            is_over = await conversation.run(takes_stdin=takes_stdin)
    finally:
        attachment.close()
    await link.send(await _exit(find) if is_over else Exit())


async def _first(
    attaching: Coroutine[None, None, Attachment | None], hearing: Coroutine[None, None, None]
) -> Attachment | None:
    """The attachment; None if the caller detached before. Raises what either raises, as a group."""
    made: Attachment | None = None

    async def attach() -> None:
        nonlocal made
        made = await attaching

    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(attach()), group.create_task(hearing)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except BaseException:
        if made is not None:
            made.close()
        raise
    return made


async def _hear(link: Link, early: list[Frame]) -> None:
    """Add the caller's frames to `early`; return when it detaches. Raises Unavailable once it is
    gone.
    """
    while len(early) < _EARLY_FRAMES:
        early.append(await link.receive())
        if isinstance(early[-1], Detach):
            return
    await asyncio.Event().wait()


def _after(early: list[Frame], link: Link) -> Link:
    """The link, which gives these frames first."""
    left = deque(early)

    async def receive() -> Frame:
        return left.popleft() if left else await link.receive()

    return link._replace(receive=receive)


async def _attached(runtime: Runtime, find: Find, *, wait: bool) -> Attachment | None:
    """The attachment, None if the program ended before it ran. With `wait` as soon as the container
    exists.
    """
    give_up_at = asyncio.get_running_loop().time() + _ASSIGNED_WITHIN_S
    while True:
        record = find()
        if record is not None and record.ended and wait:
            return None
        if record is not None and (record.process_runs or (wait and not record.ended)):
            try:
                return await runtime.attach(record.task_id)
            except RuntimeFailed as error:
                if not wait:
                    raise Conflict(str(error)) from error
        elif not wait:
            raise Conflict("the task's process does not run")
        elif record is None and asyncio.get_running_loop().time() > give_up_at:
            raise Unavailable("the task has not reached its agent")
        await asyncio.sleep(_POLL_S)


async def _exit(find: Find) -> Exit:
    """How the program ended, as soon as it is recorded."""
    while True:
        record = find()
        if record is None:
            raise Unavailable("the task was removed before its exit code was known")
        if record.ended:
            never_ran = not record.started_at
            return Exit(record.detail.exit_code, record.detail.error if never_ran else "")
        await asyncio.sleep(_EXIT_POLL_S)


class _Conversation:
    """The frames about one program."""

    def __init__(
        self, runtime: Runtime, record: Record, attachment: Attachment, link: Link
    ) -> None:
        self._runtime = runtime
        self._record = record
        self._attachment = attachment
        self._link = link
        self._duplex = Duplex(
            link.send, STREAM_WINDOW_NODE, (STDIN, STDOUT, STDERR), frame_bytes=link.frame_bytes
        )

    async def run(self, *, takes_stdin: bool) -> bool:
        """Return whether the program ended; otherwise its caller detached."""
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen())
            showing = group.create_task(self._show())
            others = [group.create_task(self._attachment.run())]
            if takes_stdin:
                others.append(group.create_task(self._feed()))
            await asyncio.wait((listening, showing), return_when=asyncio.FIRST_COMPLETED)
            for task in (listening, showing, *others):
                task.cancel()
        return not showing.cancelled()

    async def _show(self) -> None:
        while (found := await self._attachment.read()) is not None:
            await self._duplex.write(*found)

    async def _feed(self) -> None:
        await self._duplex.drain(STDIN, self._attachment.write)
        self._attachment.close_stdin()

    async def _listen(self) -> None:
        """Process the caller's frames; return when it detaches."""
        while True:
            frame = await self._link.receive()
            if self._duplex.take(frame):
                continue
            match frame:
                case Resize(rows, columns) if self._record.spec.container_spec.tty:
                    self._attachment.resize(rows, columns)
                case Signal(name):
                    await self._signal(name)
                case Detach():
                    return
                case _:
                    pass

    async def _signal(self, name: str) -> None:
        with suppress(InvalidArgument, RuntimeFailed):
            await self._runtime.kill(self._record.task_id, signal_number(name))
