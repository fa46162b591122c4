"""The programs that pack and unpack volumes, when this process cannot take them over."""

import asyncio
import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes import tar


async def test_a_program_that_cannot_be_watched_is_killed_and_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[subprocess.Popen[bytes]] = []

    def start(*_: object, **__: object) -> "subprocess.Popen[bytes]":
        made.append(subprocess.Popen(["sleep", "1000"]))
        return made[0]

    def full(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tar, "start", start)
    monkeypatch.setattr(os, "pidfd_open", full)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(RuntimeFailed, match="too many open files"):
        await tar.begin(tar.PACK, tmp_path, tmp_path)
    assert made[0].wait(60) == -9
    assert sorted(Path("/proc/self/fd").iterdir()) == before


async def test_a_program_that_starts_as_its_caller_leaves_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[subprocess.Popen[bytes]] = []

    def start(*_: object, **__: object) -> "subprocess.Popen[bytes]":
        made.append(subprocess.Popen(["sleep", "1000"]))
        return made[0]

    monkeypatch.setattr(tar, "start", start)
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon_threadsafe

    def and_cancel(deliver: Callable[..., None], *args: Any) -> asyncio.Handle:
        """The caller is cancelled once the program was delivered, and before it has it."""

        def both() -> None:
            deliver(*args)
            beginning.cancel()

        return call_soon(both)

    monkeypatch.setattr(loop, "call_soon_threadsafe", and_cancel)
    beginning = asyncio.create_task(tar.begin(tar.PACK, tmp_path, tmp_path))
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert await asyncio.to_thread(made[0].wait, 60) == -9
