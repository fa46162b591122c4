"""The program that fills a volume, when its agent ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes import filling

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from agent.volumes import filling

filling.PATH = f"{sys.argv[1]}:/usr/bin:/bin"
source = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
asyncio.run(filling.copy(source, Path(sys.argv[1]) / "into"))
"""


async def test_it_ends_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    slow, told = tmp_path / "cp", tmp_path / "pid"
    slow.write_text(f"#!/bin/sh\necho $$ > {told}.new\nmv {told}.new {told}\nexec sleep 1000\n")
    slow.chmod(0o755)
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", SCRIPT, str(tmp_path))
    while not told.exists():  # another process makes it
        assert agent.returncode is None
        await asyncio.sleep(0.01)
    copying = os.pidfd_open(int(told.read_text()))
    agent.kill()
    await agent.wait()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(copying, ended.set)
    try:
        async with asyncio.timeout(60):
            await ended.wait()
    except TimeoutError:
        signal.pidfd_send_signal(copying, signal.SIGKILL)
        raise
    finally:
        loop.remove_reader(copying)
        os.close(copying)


async def test_a_file_system_without_links_names_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "cp: cannot create symbolic link '/data/link': Operation not supported"
    program = tmp_path / "cp"
    program.write_text(f'#!/bin/sh\necho "{told}" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(filling, "PATH", f"{tmp_path}:/usr/bin:/bin")
    source = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(RuntimeFailed) as failed:
            await filling.copy(source, tmp_path / "into")
    finally:
        os.close(source)
    instead = (
        "a volume of cifs takes links with the option mfsymlinks; volume-nocopy copies no files"
    )
    assert str(failed.value) == f"{told.removeprefix('cp: ')}: {instead}"
