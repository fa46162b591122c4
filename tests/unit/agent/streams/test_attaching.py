"""A caller that attaches before the program exists, in a runtime without a kernel."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agent.runtime.base import ContainerConfig
from agent.runtime.fake import FakeRuntime
from agent.runtime.running.attachments import Attachments
from agent.streams.attaching import serve_attach
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import Unavailable
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.streams.frames import Data, Detach, Exit, Resize, Window
from pyswarm_core.streams.requests import AttachRequest
from tests.unit.agent.streams.test_commands import Caller


class Host:
    """A host whose one task, a1, has no container yet."""

    def __init__(self) -> None:
        spec = TaskSpec(container_spec=ContainerSpec(image="a", tty=True, open_stdin=True))
        self.runtime = FakeRuntime()
        self.record: Any = SimpleNamespace(
            task_id="a1",
            ended=False,
            process_runs=False,
            started_at=1,
            detail=SimpleNamespace(exit_code=3, error=""),
            spec=spec,
        )

    async def begin(self) -> None:
        """Start the container."""
        await self.runtime.create(ContainerConfig(id="a1", oci={}, layers=()))
        await self.runtime.start("a1")

    async def attach(self, caller: Caller) -> None:
        """Serve a caller that waits for the program."""
        request = AttachRequest(ref="a1", stdin=True, wait=True)
        attachments = Attachments(SystemClock())
        await serve_attach(self.runtime, attachments, request, lambda: self.record, caller.link)


async def test_a_caller_that_goes_does_not_wait_for_the_program() -> None:
    caller = Caller()
    caller.say(None)
    async with asyncio.timeout(60):
        with pytest.raises(ExceptionGroup) as raised:
            await Host().attach(caller)
    assert raised.group_contains(Unavailable, match="the caller is gone")


async def test_a_caller_that_detaches_does_not_wait_for_the_program() -> None:
    caller = Caller()
    caller.say(Resize(5, 9), Detach())
    async with asyncio.timeout(60):
        await Host().attach(caller)
    assert caller.got == [Exit(0)]


async def test_what_a_caller_sends_before_the_program_exists_reaches_it() -> None:
    host, caller = Host(), Caller()
    caller.say(Window(1, 100), Resize(5, 9))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(host.attach(caller))
        while not caller.sends.empty():  # noqa: ASYNC110
            await asyncio.sleep(0)
        await host.begin()
        await caller.until_credit()
        caller.say(Data(0, b"typed"))
        attachment = host.runtime.attached["a1"]
        attachment.output.put_nowait((1, b"hello"))
        await caller.until_output(b"hello")
        host.record.ended = True
        attachment.output.put_nowait(None)
    assert (attachment.size, bytes(attachment.stdin)) == ((5, 9), b"typed")
    assert (caller.got[-1], attachment.left) == (Exit(3), True)


async def test_an_attachment_is_closed_if_the_task_was_removed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, attach = Host(), FakeRuntime.attach

    async def removed_meanwhile(runtime: FakeRuntime, container_id: str) -> Any:
        made = await attach(runtime, container_id)
        host.record = None
        return made

    monkeypatch.setattr(FakeRuntime, "attach", removed_meanwhile)
    await host.begin()
    with pytest.raises(Unavailable, match="the task was removed"):
        await host.attach(Caller())
    assert host.runtime.attached["a1"].left
