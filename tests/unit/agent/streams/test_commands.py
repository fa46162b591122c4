"""Commands with their stdio as a byte stream, in a runtime without a kernel."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.runtime.base import ContainerConfig
from agent.runtime.fake import CommandScript, FakeRuntime, Script
from agent.runtime.running.attachments import Attachments
from agent.streams.base import Link
from agent.streams.serving import Streams
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import Conflict, Exhausted, Unavailable
from pyswarm_core.ids import TaskId
from pyswarm_core.streams.frames import Data, Detach, Exit, Frame, HalfClose, Resize, Signal, Window
from pyswarm_core.streams.limits import STREAM_WINDOW_NODE, STREAMS_PER_NODE
from pyswarm_core.streams.requests import ExecRequest

COMMANDS = {
    "hello": CommandScript(output=b"hello", code=3),
    "waits": CommandScript(output=b"begun", takes_s=1000.0),
}


class Caller:
    """The other end: what it sends, and what it got."""

    def __init__(self) -> None:
        self.got: list[Frame] = []
        self.sends: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.changed = asyncio.Event()
        self.link = Link(self._send, self._receive)

    async def _send(self, frame: Frame) -> None:
        self.got.append(frame)
        self.changed.set()

    async def _receive(self) -> Frame:
        frame = await self.sends.get()
        if frame is None:
            raise Unavailable("the caller is gone")
        return frame

    def say(self, *frames: Frame | None) -> None:
        """Send frames; None: it goes."""
        for frame in frames:
            self.sends.put_nowait(frame)

    def output(self) -> bytes:
        """The data that it got."""
        return b"".join(frame.data for frame in self.got if isinstance(frame, Data))

    async def until_credit(self) -> None:
        """Wait until it may send something."""
        while not any(isinstance(frame, Window) for frame in self.got):
            self.changed.clear()
            await self.changed.wait()

    async def until_output(self, expected: bytes) -> None:
        """Wait for it."""
        while self.output() != expected:
            self.changed.clear()
            await self.changed.wait()


def open_files() -> list[Path]:
    """The descriptors of this process."""
    return list(Path("/proc/self/fd").iterdir())


class Host:
    """A host with the container a1, which knows the commands above."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.runtime.scripts["a1"] = Script(commands=COMMANDS)
        records: Any = {TaskId("a1"): SimpleNamespace(process_runs=True)}
        self.streams = Streams(
            self.runtime, Attachments(SystemClock()), lambda: records, lambda _: socket.socket()
        )

    async def begin(self) -> None:
        """Start the container."""
        await self.runtime.create(ContainerConfig(id="a1", oci={}, layers=()))
        await self.runtime.start("a1")

    async def exec(self, caller: Caller, *words: str, **options: Any) -> None:
        """Serve a command."""
        await self.streams.serve(ExecRequest(ref="a1", args=words, **options), caller.link)


@pytest.fixture
async def host() -> Host:
    made = Host()
    await made.begin()
    return made


async def test_output_needs_credit_and_the_exit_code_follows_it(host: Host) -> None:
    caller = Caller()
    async with asyncio.TaskGroup() as group:
        served = group.create_task(host.exec(caller, "hello"))
        caller.say(Window(1, 2), Window(2, 1))
        await caller.until_output(b"he")
        assert not served.done()
        caller.say(Window(1, 100))
    assert caller.output() == b"hello"
    assert caller.got[-1] == Exit(3)


async def leave(caller: Caller) -> None:
    await caller.until_output(b"begun")
    caller.say(None)


async def test_a_caller_that_goes_ends_the_command(host: Host) -> None:
    caller = Caller()
    caller.say(Window(1, 100))
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.gather(host.exec(caller, "waits"), leave(caller))
    assert raised.group_contains(Unavailable, match="the caller is gone")
    assert host.runtime.opened[0].killed


async def test_a_caller_that_detaches_leaves_the_command_running(host: Host) -> None:
    caller = Caller()
    caller.say(Window(1, 100))
    async with host.streams:
        async with asyncio.TaskGroup() as group:
            group.create_task(host.exec(caller, "waits"))
            await caller.until_output(b"begun")
            caller.say(Detach())
        assert caller.got[-1] == Exit(0)
        (opened,) = host.runtime.opened
        assert not opened.killed
    assert opened.killed, "it ends with the agent"


async def test_stdin_signals_and_sizes_reach_the_program(host: Host) -> None:
    caller = Caller()
    async with asyncio.TaskGroup() as group:
        group.create_task(host.exec(caller, "waits", interactive=True))
        await caller.until_credit()
        caller.say(Data(0, b"typed"), HalfClose(0), Resize(5, 9), Signal("INT"))
        caller.say(Window(1, 100), Window(2, 100))
    (opened,) = host.runtime.opened
    assert (opened.size, caller.got[-1]) == ((5, 9), Exit(130))


async def test_a_program_that_does_not_read_its_stdin_stops_the_caller(host: Host) -> None:
    caller = Caller()
    async with asyncio.TaskGroup() as group:
        served = group.create_task(host.exec(caller, "waits", interactive=True))
        await caller.until_credit()
        caller.say(Data(0, bytes(STREAM_WINDOW_NODE)), Window(1, 100))
        await caller.until_output(b"begun")
        granted = sum(frame.credit for frame in caller.got if isinstance(frame, Window))
        assert granted == STREAM_WINDOW_NODE == 256 * 1024
        served.cancel()
    assert host.runtime.opened[0].killed


async def test_a_task_whose_process_does_not_run_is_refused(host: Host) -> None:
    request = ExecRequest(ref="a2", args=("hello",))
    with pytest.raises(Conflict, match="process does not run"):
        await host.streams.serve(request, Caller().link)
    await host.runtime.pause("a1")
    with pytest.raises(Conflict, match="a1 is paused"):
        await host.exec(Caller(), "hello")


async def test_an_agent_serves_so_many_streams(host: Host) -> None:
    host.streams.open = STREAMS_PER_NODE
    with pytest.raises(Exhausted, match="256 streams to tasks of this node are open"):
        await host.exec(Caller(), "hello")
    assert host.streams.open == STREAMS_PER_NODE == 256


async def test_descriptors_are_closed(host: Host) -> None:
    before = len(open_files())
    caller = Caller()
    caller.say(Window(1, 100), Window(2, 100))
    await host.exec(caller, "hello", interactive=True)
    assert len(open_files()) == before
