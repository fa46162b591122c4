"""The programs that pack and unpack volumes, when this process cannot take them over."""

import errno
import os
import subprocess
from pathlib import Path

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
