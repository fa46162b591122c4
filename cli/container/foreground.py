"""A container on this process's stdin, stdout and stderr, until it ends. SHELL.

The container starts once the stream is open (`attach_by`), so that no output is lost; a second
watch says why it does not start.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from cli.client import Client
from cli.container import calls
from cli.container.lifecycle import starting, watching
from cli.container.lifecycle.change import NotStarted
from cli.converge import Watched
from cli.streams import keys, program
from cli.streams.program import Stdio
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import MINUTE, Instant, after
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.objects import Service
from pyswarm_core.states import TaskState
from pyswarm_core.streams.frames import Exit
from pyswarm_core.streams.requests import ATTACH, AttachRequest

ATTACHED_WITHIN = MINUTE
"""How long a container waits for this process; agents wait no longer."""
REPORTED_WITHIN_S = 1.0
"""The end of a task is known to the controller in this time."""
_POLL_S = 0.05
REMOVED_WITHIN_S = 10.0
"""How long `run --rm` waits for the removal of an ended container."""


class Attached(msgspec.Struct, frozen=True):
    """Which streams of a container this process gets."""

    stdin: bool
    terminal: bool
    stdout: bool = True
    stderr: bool = True
    sig_proxy: bool = True
    detach_keys: str = keys.DEFAULT

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Attached":
        """As the flags of `run` say. Raises InvalidArgument."""
        streams = [word.lower() for word in given["attach"]]
        stdin = given["interactive"] and (not streams or "stdin" in streams)
        if stdin and given["tty"] and not os.isatty(sys.stdin.fileno()):
            raise InvalidArgument("-t: the input device is not a TTY: use -i alone")
        keys.parse("--detach-keys", given["detach_keys"] or keys.DEFAULT)
        return cls(
            stdin=stdin,
            terminal=bool(given["tty"]),
            stdout=not streams or "stdout" in streams,
            stderr=not streams or "stderr" in streams,
            sig_proxy=given["sig_proxy"],
            detach_keys=given["detach_keys"] or keys.DEFAULT,
        )

    @property
    def stdio(self) -> Stdio:
        """For the program."""
        return Stdio(
            self.stdin,
            self.terminal,
            keys.parse("--detach-keys", self.detach_keys),
            program.PROXIED if self.sig_proxy and not self.terminal else (),
            None if self.stdout else _discard,
            None if self.stderr else _discard,
        )


async def _discard(data: bytes) -> None:
    """Output of a stream that is not attached."""


def attach_by() -> Instant:
    """When a container that is run now starts, even if this process is not attached."""
    return after(SystemClock().now(), ATTACHED_WITHIN)


def follow(client: Client, service: Service, attached: Attached) -> int:
    """Attach until the container ends or is detached; returns its exit code.

    Raises NotStarted, and Broken if the stream ends before the container.
    """
    sys.stdout.flush()
    request = AttachRequest(ref=service.id, stdin=attached.stdin, wait=True)
    ended = program.in_loop(_conversation(client, service, request, attached.stdio))
    if ended.message and not ended.code:
        raise NotStarted(ended.message)
    return ended.code


async def _conversation(
    client: Client, service: Service, request: AttachRequest, stdio: Stdio
) -> Exit:
    start = _Start(client, service)
    start.watch()
    async with asyncio.TaskGroup() as group:
        talk = group.create_task(_talk(client, request, stdio, start))
        await asyncio.wait((talk, start.failed), return_when=asyncio.FIRST_COMPLETED)
        if start.failed.done():
            raise NotStarted(start.failed.result())
    return talk.result()


async def _talk(client: Client, request: AttachRequest, stdio: Stdio, start: "_Start") -> Exit:
    """Attach; while its task has no node, once it has one."""
    while True:
        was_placed = start.placed.is_set()
        try:
            return await program.converse(client, ATTACH, request, stdio)
        except Conflict:
            if was_placed:
                # A task that was rejected has ended before its reason is here.
                await asyncio.wait((start.failed,), timeout=REPORTED_WITHIN_S)
                if not start.failed.done():
                    raise
                raise NotStarted(start.failed.result()) from None
            await start.placed.wait()


class _Start:
    """How far the start of a container is, which a thread watches."""

    def __init__(self, client: Client, service: Service) -> None:
        self._client = client
        self._service = service
        self._loop = asyncio.get_running_loop()
        self.placed = asyncio.Event()
        """Set once its task has a node."""
        self.failed: asyncio.Future[str] = self._loop.create_future()
        """Why it cannot be started."""

    def watch(self) -> None:
        """Begin."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            reason = starting.until_started(
                self._client, Watched.of(self._service), placed=partial(self._tell, self._set)
            )
        except Exception:
            return  # the stream reports it, unless it has ended and the client is closed
        self._tell(self._set)
        if reason:
            self._tell(_settle, self.failed, reason)

    def _set(self) -> None:
        self.placed.set()

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)


def _settle(failed: "asyncio.Future[str]", reason: str) -> None:
    if not failed.done():
        failed.set_result(reason)


def until_removed(client: Client, service: Service, attached: Attached) -> None:
    """Wait until a container that has ended has removed itself; return if it goes on, because its
    terminal was detached.
    """
    if attached.stdin and attached.terminal and _is_detached(client, service):
        return
    deadline = time.monotonic() + REMOVED_WITHIN_S
    for progress in watching.progress_of(client, service.id):
        if progress.gone or time.monotonic() > deadline:
            return


def _is_detached(client: Client, service: Service) -> bool:
    """Whether it still runs after the time in which the end of a task is known."""
    for _ in range(round(REPORTED_WITHIN_S / _POLL_S)):
        try:
            task = calls.named(client, service.id).task
        except NotFound:
            return False
        if task is None or task.task.state is not TaskState.RUNNING:
            return False
        time.sleep(_POLL_S)
    return True
