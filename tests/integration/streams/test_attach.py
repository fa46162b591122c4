"""A client attached to the program of a real container, over the whole path of a byte stream."""

import asyncio

import pytest

from pyswarm_core.errors import Conflict
from tests.integration.streams.conftest import Rig
from tests.integration.streams.stdio import fed


async def test_a_client_that_came_before_the_program_gets_all_of_it(rig: Rig) -> None:
    await rig.create(script="echo out; echo err >&2; exit 5")
    async with asyncio.TaskGroup() as group:
        attached = group.create_task(rig.attach(wait=True))
        await rig.until_attached()
        await rig.start()
    ended, seen = attached.result()
    assert (ended.code, ended.message) == (5, "")
    assert (bytes(seen.out), bytes(seen.err)) == (b"out\n", b"err\n")


async def test_stdin_reaches_the_program_and_its_end_too(rig: Rig) -> None:
    await rig.run("/bin/cat", open_stdin=True, stdin_once=True)
    with fed(b"x" * 1_000_000):
        ended, seen = await rig.attach(stdin=True)
    assert (ended.code, len(seen.out)) == (0, 1_000_000)


async def test_the_last_output_of_a_program_is_complete(rig: Rig) -> None:
    await rig.create(script="dd if=/dev/zero bs=1000 count=3000 2>/dev/null; exit 4")
    async with asyncio.TaskGroup() as group:
        attached = group.create_task(rig.attach(wait=True))
        await rig.until_attached()
        await rig.start()
    ended, seen = attached.result()
    assert (ended.code, len(seen.out)) == (4, 3_000_000)


async def test_a_terminal_is_resized(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.streams.terminal.size", lambda: (33, 99))
    script = "until [ \"$(busybox stty size 2>&1)\" = '33 99' ]; do :; done; echo ok; exit 2"
    await rig.create(script=script, tty=True, open_stdin=True)
    async with asyncio.TaskGroup() as group:
        attached = group.create_task(rig.attach(wait=True))
        await rig.until_attached()
        await rig.start()
    ended, seen = attached.result()
    assert (ended.code, bytes(seen.out)) == (2, b"ok\r\n")


async def test_a_program_that_never_ran(rig: Rig) -> None:
    await rig.create()
    async with asyncio.TaskGroup() as group:
        attached = group.create_task(rig.attach(wait=True))
        await rig.until_attached()
        await rig.world.runtime.remove("a1")
        rig.code = 137
    ended, _ = attached.result()
    assert (ended.code, ended.message) == (137, "why")


async def test_a_container_that_has_ended(rig: Rig) -> None:
    await rig.run(script="exit 3")
    await rig.ended.wait()
    with pytest.raises(Conflict, match="process does not run"):
        await rig.attach()
    ended, _ = await rig.attach(wait=True)
    assert ended.code == 3
