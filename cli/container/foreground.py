"""A container on this process's stdin, stdout and stderr, until it ends. SHELL.

The stream is opened before the container runs and replays what was written before; a second watch
says why it does not start.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from cli.client import Client
from cli.container.lifecycle import starting, watching
from cli.container.lifecycle.change import NotStarted
from cli.converge import Watched
from cli.streams import call, keys, program
from cli.streams.program import Stdio
from pyswarm_core.errors import InvalidArgument, PyswarmError, causes
from pyswarm_core.objects import Service
from pyswarm_core.streams.frames import Exit
from pyswarm_core.streams.requests import AttachRequest

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


def follow(client: Client, service: Service, attached: Attached) -> int:
    """Attach until the container ends or is detached; returns its exit code.

    Raises NotStarted, and Broken if the stream ends before the container.
    """
    sys.stdout.flush()
    request = AttachRequest(ref=service.id, stdin=attached.stdin, logs=True, wait=True)
    try:
        ended = asyncio.run(_conversation(client, service, request, attached.stdio))
    except BaseExceptionGroup as errors:
        raise next(causes(errors)) from None
    if ended.message:
        click.echo(f"Error: {ended.message}", err=True)
    return ended.code


async def _conversation(
    client: Client, service: Service, request: AttachRequest, stdio: Stdio
) -> Exit:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[str] = loop.create_future()

    def watch() -> None:
        try:
            reason = starting.until_started(client, Watched.of(service))
        except PyswarmError:
            return  # the stream reports it
        if reason:
            loop.call_soon_threadsafe(_settle, failed, reason)

    threading.Thread(target=watch, daemon=True).start()
    async with asyncio.TaskGroup() as group:
        talk = group.create_task(program.converse(client, call.ATTACH, request, stdio))
        await asyncio.wait((talk, failed), return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise NotStarted(failed.result())
    return talk.result()


def _settle(failed: "asyncio.Future[str]", reason: str) -> None:
    if not failed.done():
        failed.set_result(reason)


def until_removed(client: Client, service: Service) -> None:
    """Wait until a container that has ended has removed itself; return if it goes on."""
    deadline = time.monotonic() + REMOVED_WITHIN_S
    for progress in watching.progress_of(client, service.id):
        if progress.gone or progress.running or time.monotonic() > deadline:
            return
