"""Commands in containers, with a script in place of the OCI runtime and files for cgroups."""

from pathlib import Path

import pytest

from agent.runtime import cgroups
from agent.runtime.base import Command, CommandResult
from agent.runtime.cgroups import Hierarchies
from agent.runtime.conmon import Binaries
from agent.runtime.crun import ConmonRuntime
from agent.runtime.layout import Layout
from agent.runtime.running import execs
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
        patch.setattr(cgroups, "empty", lambda _, path: examined.append(path))
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
