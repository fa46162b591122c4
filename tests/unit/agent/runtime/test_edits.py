"""Files in /etc of running containers are edited in place, whatever the container wrote to them."""

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest

from agent.runtime.cgroups import Hierarchies
from agent.runtime.conmon import Binaries
from agent.runtime.crun import ConmonRuntime
from agent.runtime.layout import Layout
from agent.runtime.running import edits

FORMER = b"127.0.0.1\tlocalhost\n10.128.0.2\tweb\n"


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(FORMER)
    return path


@pytest.mark.parametrize("after", [b"", b"::1\tlocalhost\n", FORMER + b"10.0.0.7\tmine\n"])
def test_the_file_stays_the_one_that_is_mounted(hosts: Path, after: bytes) -> None:
    inode = hosts.stat().st_ino
    edits.edit(hosts, lambda present: after if present == FORMER else b"")
    assert (hosts.read_bytes(), hosts.stat().st_ino) == (after, inode)


def test_a_file_that_the_container_made_large_is_not_read_and_stays(
    hosts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(hosts, 2 << 30)
    read: list[bytes] = []

    def empty(present: bytes) -> bytes:
        read.append(present)
        return b""

    with caplog.at_level(logging.WARNING):
        edits.edit(hosts, empty)
    assert (read, hosts.stat().st_size) == ([], 2 << 30)
    assert caplog.text.count("file.too_large_to_edit") == 1


def test_a_file_of_the_largest_size_is_edited(hosts: Path) -> None:
    hosts.write_bytes(b"\n" * edits.EDITED_MAX)
    edits.edit(hosts, lambda present: present[1:])
    assert hosts.stat().st_size == edits.EDITED_MAX - 1


def test_an_agent_that_is_killed_between_leaves_a_complete_file(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(file: int, length: int) -> None:
        raise KeyboardInterrupt

    after = b"127.0.0.1\tlocalhost\n"
    monkeypatch.setattr(os, "ftruncate", killed)
    with pytest.raises(KeyboardInterrupt):
        edits.edit(hosts, lambda present: after)
    assert hosts.read_bytes() == after + b"\n" * (len(FORMER) - len(after))


def test_nothing_but_a_regular_file_is_opened(hosts: Path) -> None:
    (link := hosts.with_name("link")).symlink_to(hosts)
    os.mkfifo(fifo := hosts.with_name("fifo"))
    for path in (link, fifo):
        with pytest.raises(OSError, match=r"symbolic links|no regular file"):
            edits.edit(path, lambda present: b"x")
    assert hosts.read_bytes() == FORMER


async def test_the_event_loop_does_not_wait_for_an_edit(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state", tmp_path / "run", "/test")
    runtime = ConmonRuntime(Binaries("conmon", "crun", "crun"), layout, Hierarchies())
    try:
        path = Path(runtime.file_path("c1", "hosts"))
        path.parent.mkdir(parents=True)
        path.write_bytes(FORMER)
        loop, goes_on = asyncio.get_running_loop(), threading.Event()

        def edit(present: bytes) -> bytes:
            loop.call_soon_threadsafe(goes_on.set)
            assert goes_on.wait(60)
            return present + b"x\n"

        await runtime.edit_file("c1", "hosts", edit)
        assert path.read_bytes() == FORMER + b"x\n"
        with pytest.raises(FileNotFoundError):
            await runtime.edit_file("c2", "hosts", edit)
    finally:
        runtime.close()
