"""Commands in containers, with a script in place of the OCI runtime and files for cgroups."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from agent.runtime import cgroups, procs
from agent.runtime.base import (
    CgroupLimits,
    Command,
    CommandResult,
    HostFailed,
    LogLimits,
    NotRunning,
    RuntimeFailed,
)
from agent.runtime.cgroups import Hierarchies
from agent.runtime.conmon import Binaries
from agent.runtime.crun import ConmonRuntime
from agent.runtime.layout import ContainerRecord, Layout
from agent.runtime.procs import Process
from agent.runtime.running import execs, limits
from agent.runtime.running.execs import Execs
from agent.runtime.steps import Steps

COMMAND = Command(args=("/check",))


class Rig:
    """A container `a1` that exists in files alone."""

    def __init__(self, base: Path) -> None:
        oci = base / "oci"
        oci.write_text("#!/bin/sh\necho hello\nexit 7\n")
        oci.chmod(0o755)
        self.binaries = Binaries(conmon="/none", oci=str(oci), kind="crun")
        self.layout = Layout(base / "state", base / "run", "/parent")
        self.layout.prepare()
        self.hierarchies = Hierarchies(unified=str(base / "cgroup"))
        self.cgroup = base / "cgroup/parent/a1"
        self.cgroup.mkdir(parents=True)
        bundle = self.layout.bundle("a1")
        bundle.mkdir()
        process = '{"args": ["/main"], "env": ["A=b"], "cwd": "/"}'
        (bundle / "config.json").write_text(f'{{"process": {process}, "linux": {{"x": [1]}}}}')

    def execs(self) -> Execs:
        return Execs(self.binaries, self.layout, self.hierarchies)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def ended(commands: Execs) -> CommandResult:
    running = commands.begin("a1", COMMAND)
    output, timed_out = await execs.wait(running, 10)
    assert commands.is_over(running)
    return commands.end(running, output, timed_out=timed_out)


async def test_a_cgroup_in_which_a_command_ended_is_not_examined_before_the_next(rig: Rig) -> None:
    commands = rig.execs()
    assert await ended(commands) == CommandResult(code=7, output=b"hello\n")
    examined: list[str] = []
    used = rig.cgroup / "exec-0"
    assert [path.name for path in rig.cgroup.iterdir()] == ["exec-0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroups, "members", lambda _, path: examined.append(path))
        running = commands.begin("a1", COMMAND)
        assert examined == []
        other = commands.begin("a1", COMMAND)
        assert other.cgroup.endswith("exec-1"), "the first is busy"
        later = rig.execs().begin("a1", COMMAND)
        assert sorted(examined) == ["/parent/a1/exec-0", "/parent/a1/exec-1"], "another agent's"
    (used / "cgroup.procs").write_text("1\n")
    assert not commands.is_over(running)
    (used / "cgroup.procs").unlink()
    for begun in (running, other, later):
        output, _ = await execs.wait(begun, 10)
        assert commands.end(begun, output, timed_out=False).code == 7


class Kernel:
    """Cgroups with processes that hang: SIGKILL does not end them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.hanging: set[str] = set()
        self.killed: list[str] = []
        patch.setattr(cgroups, "members", lambda _, path: (7,) if path in self.hanging else ())
        patch.setattr(cgroups, "kill", lambda _, path: self.killed.append(path))
        patch.setattr(cgroups, "_REMOVE_TIMEOUT_S", 0)


async def test_processes_that_hang_delay_no_further_command(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch)
    commands = rig.execs()
    for number in range(4):
        running = commands.begin("a1", COMMAND)
        assert running.cgroup == f"/parent/a1/exec-{number}"
        output, _ = await execs.wait(running, 10)
        kernel.hanging.add(running.cgroup)
        with pytest.raises(RuntimeFailed, match="cannot kill the processes"):
            commands.end(running, output, timed_out=True)
        with pytest.raises(ProcessLookupError):
            os.kill(running.pid, 0)  # reaped, although its command hangs
    kernel.killed.clear()
    with pytest.raises(RuntimeFailed, match="former commands do not end"):
        commands.begin("a1", COMMAND)
    assert len(kernel.killed) == 4, "each once"
    kernel.hanging.remove("/parent/a1/exec-2")
    assert (await ended(commands)).code == 7


async def test_commands_that_begin_slowly_delay_no_container(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = ConmonRuntime(rig.binaries, rig.layout, rig.hierarchies)
    may_begin = threading.Event()

    def begin(*_: object, opened: bool) -> None:
        may_begin.wait()
        raise RuntimeFailed("slow")

    monkeypatch.setattr(runtime._steps, "begin_exec", begin)
    monkeypatch.setattr(runtime._steps, "start", lambda *_: None)
    monkeypatch.setattr(runtime._steps, "remove", lambda *_: None)
    try:
        slow = [asyncio.create_task(runtime.exec("a1", COMMAND, 10)) for _ in range(20)]
        await asyncio.sleep(0)
        await runtime.start("a2")
        await runtime.remove("a2")
        may_begin.set()
        found = await asyncio.gather(*slow, return_exceptions=True)
        assert all(isinstance(one, RuntimeFailed) for one in found)
    finally:
        may_begin.set()
        runtime.close()


async def test_an_end_in_the_turn_of_the_timeout_is_no_error(rig: Rig) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    commands = rig.execs()
    running = commands.begin("a1", COMMAND)
    await asyncio.to_thread(os.waitid, os.P_PIDFD, running.pidfd, os.WEXITED | os.WNOWAIT)
    _, timed_out = await execs.wait(running, 0)
    assert not errors
    assert commands.end(running, b"", timed_out=timed_out).code == 7


async def test_a_host_without_descriptors_is_not_the_containers_fault(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe2", refuse)
    with pytest.raises(HostFailed, match="cannot start a command: Too many open files"):
        rig.execs().begin("a1", COMMAND)


async def test_a_command_that_left_no_process_is_ended_without_a_thread(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = ConmonRuntime(rig.binaries, rig.layout, rig.hierarchies)
    monkeypatch.delattr(ConmonRuntime, "_end_command")
    monkeypatch.setattr(Steps, "_is_paused", lambda *_: False)
    try:
        result = await runtime.exec("a1", COMMAND, 10)
        assert result == CommandResult(code=7, output=b"hello\n")
    finally:
        runtime.close()


def test_limits_that_fail_because_the_container_ended_are_not_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeFailed("cannot change the CPU limit: no such device")

    steps = Steps(rig.binaries, rig.layout, rig.hierarchies, lambda *_: None)
    found = ContainerRecord(monitor=Process(), container=Process(1), log_limits=LogLimits())
    monkeypatch.setattr(Layout, "read_record", lambda *_: found)
    monkeypatch.setattr(limits, "change", refuse)
    monkeypatch.setattr(procs, "is_alive", lambda _: True)
    with pytest.raises(RuntimeFailed, match="no such device"):
        steps.update("a1", CgroupLimits())
    alive = iter((True, False))
    monkeypatch.setattr(procs, "is_alive", lambda _: next(alive))
    with pytest.raises(NotRunning, match="it is not running"):
        steps.update("a1", CgroupLimits())
