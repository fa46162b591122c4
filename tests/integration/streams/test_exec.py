"""Commands in a real container, over the whole path of a byte stream."""

from typing import Any

import pytest

from cli.streams import terminal
from pyswarm_core.errors import Conflict
from tests.integration.runtime.test_running import processes
from tests.integration.streams.conftest import Rig
from tests.integration.streams.stdio import fed


async def test_a_command_writes_and_exits(rig: Rig) -> None:
    await rig.run()
    ended, seen = await rig.exec("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.code, ended.message) == (7, "")
    assert (bytes(seen.out), bytes(seen.err)) == (b"out\n", b"err\n")


async def test_stdin_reaches_the_command_and_its_end_too(rig: Rig) -> None:
    await rig.run()
    with fed(b"x" * 3_000_000):
        ended, seen = await rig.exec("/bin/cat", stdin=True)
    assert (ended.code, len(seen.out)) == (0, 3_000_000)


@pytest.mark.parametrize(
    ("words", "options", "code", "message"),
    [
        (["/bin/nothing"], {}, 127, 'exec: "/bin/nothing": stat /bin/nothing: no such file'),
        (["nothing"], {}, 127, 'exec: "nothing": executable file not found in $PATH'),
        (["/etc/passwd"], {}, 126, 'exec: "/etc/passwd": permission denied'),
        (["true"], {"user": "nobody"}, 126, "unable to find user nobody: no matching entries"),
    ],
)
async def test_a_command_that_cannot_be_executed(
    rig: Rig, words: list[str], options: dict[str, Any], code: int, message: str
) -> None:
    await rig.run()
    ended, seen = await rig.exec(*words, **options)
    assert (ended.code, bytes(seen.out), bytes(seen.err)) == (code, b"", b"")
    assert message in ended.message


async def test_a_command_has_the_environment_user_and_directory_that_were_given(rig: Rig) -> None:
    await rig.run(env=("A=container", "B=container"))
    _, seen = await rig.exec(
        "/bin/sh",
        "-c",
        "echo $A $B $(id -u) $PWD $HOME",
        env=("A=b",),
        user="worker",
        workdir="/tmp",
    )
    assert bytes(seen.out) == b"b container 1000 /tmp /home/worker\n"


async def test_a_terminal_has_the_size_of_the_callers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "size", lambda: (33, 99))
    await rig.run()
    script = "until [ \"$(busybox stty size 2>&1)\" = '33 99' ]; do :; done; echo ok"
    ended, seen = await rig.exec("/bin/sh", "-c", script, terminal=True)
    assert (ended.code, ended.message, bytes(seen.out)) == (0, "", b"ok\r\n")


async def until_refused(rig: Rig) -> None:
    while True:
        await rig.exec("/bin/true")


async def test_a_task_that_just_ended(rig: Rig) -> None:
    await rig.run()
    await rig.world.runtime.kill("a1", 9)
    with pytest.raises(Conflict, match="not run"):
        await until_refused(rig)
    rig.alive = False
    with pytest.raises(Conflict, match="the task's process does not run"):
        await rig.exec("/bin/true")


async def test_a_paused_container(rig: Rig) -> None:
    await rig.run()
    await rig.world.runtime.pause("a1")
    with pytest.raises(Conflict, match="container a1 is paused"):
        await rig.exec("/bin/true")


async def test_a_full_pids_cgroup(rig: Rig) -> None:
    await rig.run(script="sleep 1000 & sleep 1000 & sleep 1000 & wait", pids=4)
    assert (await rig.exec("/bin/true"))[0].code == 0
    ended, seen = await rig.exec("/bin/sh", "-c", "/bin/true & wait")
    assert (ended.code, b"can't fork" in seen.err) == (2, True)


async def test_what_a_command_started_goes_on_after_it(rig: Rig) -> None:
    await rig.run()
    for _ in range(2):
        ended, _ = await rig.exec("/bin/sh", "-c", "sleep 500 & exit 3")
        assert ended.code == 3
    assert processes(rig.world) == 3
