"""A program in a task on this process's stdin, stdout and stderr. SHELL."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import NamedTuple

import click
from msgspec.structs import replace

from cli.client import Client
from cli.streams import keys, terminal
from cli.streams.call import Call, conversing
from cli.streams.stdio import Input, Output
from pyswarm_core.aio.streams.duplex import Duplex, Write
from pyswarm_core.errors import causes
from pyswarm_core.streams.frames import (
    STDERR,
    STDIN,
    STDOUT,
    Detach,
    Exit,
    HalfClose,
    Resize,
    Signal,
    Started,
)
from pyswarm_core.streams.limits import STREAM_WINDOW
from pyswarm_core.streams.requests import AttachRequest, ExecRequest, Operation

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end this process, which first restores its terminal."""


PROXIED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals that are passed on to a program which this process stands for."""


class Stdio(NamedTuple):
    """What of this process's stdio the program gets."""

    stdin: bool
    terminal: bool
    """It is to have a terminal, as large as this process's. Stdin is raw if both have one."""
    detach_keys: bytes = b""
    signals: tuple[signal.Signals, ...] = ()
    """Signals that this process gets, for the program instead."""
    stdout: Write | None = None
    stderr: Write | None = None
    """Where its output goes instead of stdout and stderr."""
    takes_signals: bool = True
    """Signals to this process are about this program alone."""


class _Ended(Exception):
    """A signal ends this process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(
    client: Client, operation: Operation, request: ExecRequest | AttachRequest, stdio: Stdio
) -> int:
    """Run the program until it ends or its terminal is detached; return the exit code. Prints why
    it could not be executed.

    Raises Broken if the stream ends before the program, and what the controller refuses.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ended = in_loop(converse(client, operation, request, stdio))
    if ended.message:
        click.echo(f"Error: {ended.message}", err=True)
    return ended.code


def in_loop(conversation: Coroutine[None, None, Exit]) -> Exit:
    """Run a conversation; one that a signal to this process ends has the code 128 + its number.

    Raises the first error of a group.
    """
    try:
        return asyncio.run(conversation)
    except (_Ended, BaseExceptionGroup) as raised:
        error = next(causes(raised))
        if isinstance(error, _Ended):
            return Exit(128 + error.number)
        raise error from None


async def converse(
    client: Client, operation: Operation, request: ExecRequest | AttachRequest, stdio: Stdio
) -> Exit:
    """The same in a running event loop; returns how the program ended."""
    if stdio.terminal:
        rows, columns = terminal.size()
        request = replace(request, rows=rows, columns=columns)
    return await conversing(client, operation, request, lambda call: _Program(call, stdio).run())


class _Program:
    """The conversation about one program."""

    def __init__(self, call: Call, stdio: Stdio) -> None:
        self._call = call
        self._stdio = stdio
        self._duplex = Duplex(call.send, STREAM_WINDOW, (STDIN, STDOUT, STDERR))
        self._begun = asyncio.Event()
        self._started = Started()
        self._raw = ExitStack()
        self._received: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def run(self) -> Exit:
        """Raises a group of errors."""
        stdio = self._stdio
        with self._signals() if stdio.takes_signals else nullcontext():
            async with asyncio.TaskGroup() as group:
                drains = [
                    group.create_task(self._show(STDOUT, stdio.stdout or Output(1))),
                    group.create_task(self._show(STDERR, stdio.stderr or Output(2))),
                ]
                others = [group.create_task(self._watch_signals())]
                if stdio.stdin:
                    others.append(group.create_task(self._feed()))
                with self._raw:
                    ended = await self._listen()
                    await asyncio.gather(*drains)
                for task in others:
                    task.cancel()
        return ended

    async def _show(self, channel: int, write: Write) -> None:
        """Accept output once the program has begun: gRPC replaces the error of a call that is
        refused while something is written by one without a reason.
        """
        await self._begun.wait()
        await self._duplex.drain(channel, write)

    async def _listen(self) -> Exit:
        """The last frame; processes those before."""
        while True:
            frame = await self._call.receive()
            if self._duplex.take(frame):
                continue
            match frame:
                case Exit():
                    self._begun.set()
                    for channel in (STDOUT, STDERR):
                        self._duplex.take(HalfClose(channel))
                    return frame
                case Started():
                    self._started = frame
                    self._begun.set()
                    if frame.terminal and self._stdio.stdin and os.isatty(0):
                        self._raw.enter_context(terminal.raw(0))
                    self._received.put_nowait(signal.SIGWINCH)  # it may have changed since
                case _:
                    pass

    async def _feed(self) -> None:
        """Send stdin if the program has one; with a terminal until its keys to detach."""
        await self._begun.wait()
        if not self._started.stdin:
            return
        read = Input(0)
        if not self._started.terminal:
            await self._duplex.pump(STDIN, read)
            return
        watch = keys.Watch(self._stdio.detach_keys)

        async def watched(size: int) -> bytes:
            while True:
                typed = await read(size)
                sent, is_complete = watch.feed(typed)
                if is_complete:
                    await self._call.send(Detach())
                    await asyncio.get_running_loop().create_future()
                if sent or not typed:
                    return sent

        await self._duplex.pump(STDIN, watched)

    async def _watch_signals(self) -> None:
        """Raises _Ended when a signal ends this process."""
        while True:
            number = await self._received.get()
            if number in self._stdio.signals:
                await self._call.send(Signal(str(int(number))))
            elif number == signal.SIGWINCH:
                if self._started.terminal:
                    await self._call.send(Resize(*terminal.size()))
            else:
                raise _Ended(number)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle signals in the event loop while the block runs."""
        loop = asyncio.get_running_loop()
        handled = {signal.SIGWINCH, *_ENDINGS, *self._stdio.signals}
        before = {number: signal.getsignal(number) for number in handled}
        for number in handled:
            loop.add_signal_handler(number, self._received.put_nowait, number)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
