"""Terminals of commands, with both OCI runtimes."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.preflight import Preflight
from agent.runtime.base import Command, CommandResult
from agent.streams.pipes import Reader
from tests.fixtures.runtime_contract import PATIENCE_S, Behaviour, until
from tests.integration.runtime.conftest import RealWorld

SIZE = "until [ \"$(busybox stty size 2>&1)\" = '%s' ]; do :; done; echo %s"


@pytest.fixture(params=["crun", "runc"])
async def running(
    request: pytest.FixtureRequest, host: Preflight, rootfs: Path
) -> AsyncIterator[RealWorld]:
    """The container a1, which runs."""
    kind = request.param
    path = host.binaries.oci if kind == "crun" else "/usr/sbin/runc"
    binaries = msgspec.structs.replace(host.binaries, oci=path, kind=kind)
    with tempfile.TemporaryDirectory(prefix="pyswarm-terminals") as base:
        made = RealWorld(host, binaries, rootfs, Path(base))
        await made.runtime.create(made.config("a1", Behaviour.RUNS))
        await made.runtime.start("a1")
        yield made
        await made.close()


class Shell:
    """A command with a terminal of 33 rows and 99 columns."""

    def __init__(self, world: RealWorld, *words: str) -> None:
        self._runtime = world.runtime
        self._command = Command(args=words, interactive=True, terminal=True, rows=33, columns=99)
        self.seen = b""

    async def __aenter__(self) -> "Shell":
        self.opened = await self._runtime.open("a1", self._command)
        self._read = Reader(self.opened.stdout)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def until(self, text: bytes) -> None:
        """Read until the text was written."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.seen:
                data = await self._read(4096)
                assert data, self.seen
                self.seen += data

    async def ended(self) -> CommandResult:
        """Read what is left, and how it ended."""
        async with asyncio.timeout(PATIENCE_S):
            await self.opened.wait()
            self._read.finish()
            while data := await self._read(4096):
                self.seen += data
        return await self.opened.end(kill=False)


async def test_output_size_and_exit_code(running: RealWorld) -> None:
    script = (SIZE % ("33 99", "sized")) + "; [ -t 0 ] && [ -t 2 ] && exit 7"
    async with Shell(running, "/bin/sh", "-c", script) as shell:
        await shell.until(b"sized")
        assert (await shell.ended()).code == 7


async def test_runc_sets_the_size_before_the_program_begins(running: RealWorld) -> None:
    later = SIZE % ("33 99", "33 99")  # with crun the agent sets it
    script = later if running.binaries.kind == "crun" else "busybox stty size"
    async with Shell(running, "/bin/sh", "-c", script) as shell:
        await shell.until(b"33 99\r\n")
        assert (await shell.ended()).code == 0


async def test_it_is_killed(running: RealWorld) -> None:
    async with Shell(running, "/bin/sh", "-c", "echo begun; exec sleep 1000") as shell:
        await shell.until(b"begun")
        assert (await shell.opened.end(kill=True)).code == 137

    async def has_only_its_own() -> bool:
        stats = await running.stats("a1")
        return stats is not None and stats.pids <= 2

    await until(has_only_its_own)


async def test_a_new_size_input_and_the_keys_of_signals_reach_it(running: RealWorld) -> None:
    script = (SIZE % ("40 100", "resized")) + "; read line; echo got $line; sleep 1000"
    async with Shell(running, "/bin/sh", "-c", script) as shell:
        shell.opened.resize(40, 100)
        await shell.until(b"resized")
        os.write(shell.opened.stdin, b"typed\r")
        await shell.until(b"got typed")
        os.write(shell.opened.stdin, b"\x03")
        assert (await shell.ended()).code == 130


async def test_a_program_that_does_not_exist(running: RealWorld) -> None:
    async with Shell(running, "/no/such") as shell:
        ended = await shell.ended()
    assert ended.code == 127
    assert b"/no/such" in ended.output
