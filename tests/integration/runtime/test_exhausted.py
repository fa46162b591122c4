"""A host on which something ran out: each failure names it, nothing is left, and with room again
the next container runs.
"""

import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.preflight import Preflight
from agent.runtime.base import HostFailed, RuntimeFailed
from agent.runtime.conmon import Binaries
from agent.runtime.room import INODES_NEEDED, shortage
from pyswarm_core.specs import Ulimit
from tests.fixtures.runtime_contract import Behaviour
from tests.integration.runtime.conftest import RealWorld

INODES = 200


class SmallWorld:
    """A runtime whose run and state directories are file systems of their own, quickly full."""

    def __init__(self, host: Preflight, rootfs: Path, base: Path) -> None:
        self.base = base
        self.real = RealWorld(host, host.binaries, rootfs, base)
        self.config = self.real.config("a1", Behaviour.RUNS)

    @contextmanager
    def inodes_left(self, folder: str, count: int) -> Iterator[None]:
        """Have `count` inodes free below the run or state directory."""
        filling = self.base / folder / "filling"
        filling.mkdir()
        number = 0
        while os.statvfs(filling).f_favail > count:
            (filling / str(number)).touch()
            number += 1
        yield
        subprocess.run(["rm", "-r", filling], check=True)

    @contextmanager
    def bytes_left(self, folder: str) -> Iterator[None]:
        """Have no block free below the run or state directory."""
        fat = self.base / folder / "fat"
        with fat.open("wb", buffering=0) as opened:
            while os.statvfs(fat).f_bavail:
                opened.write(bytes(4096))
        yield
        fat.unlink()

    async def fails(self) -> str:
        """What a container that cannot be made is told."""
        with pytest.raises(HostFailed) as raised:
            await self.real.runtime.create(self.config)
        return str(raised.value)

    async def works(self) -> None:
        """A container can be made, and removed, once what one that failed may have left is."""
        await self.real.runtime.remove("a1")
        await self.real.runtime.create(self.config)
        await self.real.runtime.start("a1")
        await self.real.runtime.remove("a1", keep_logs=False)
        assert await self.real.runtime.found() == ()


@pytest.fixture
async def small(host: Preflight, rootfs: Path, tmp_path: Path) -> AsyncIterator[SmallWorld]:
    folders = [tmp_path / name for name in ("run", "state")]
    for folder in folders:
        folder.mkdir()
        options = f"size=2m,nr_inodes={INODES}"
        mount("-t", "tmpfs", "-o", options, "small", str(folder))
    made = SmallWorld(host, rootfs, tmp_path)
    yield made
    await made.real.close()
    for folder in folders:
        mount("--lazy", str(folder), program="umount")


def mount(*words: str, program: str = "mount") -> None:
    subprocess.run([program, *words], check=True)


@pytest.mark.parametrize(("folder", "most"), [("run", 14), ("state", 10)])
async def test_no_inodes_wherever_they_run_out(small: SmallWorld, folder: str, most: int) -> None:
    await small.works()  # the seccomp filter is compiled and kept
    for left in range(most):
        with small.inodes_left(folder, left):
            said = await small.fails()
        assert f"no space left on device: {small.base / folder} (" in said, f"{left} were left"
        assert f" of {INODES} inodes are free)" in said, f"{left} were left"
    await small.works()


async def test_no_space(small: SmallWorld) -> None:
    with small.bytes_left("run"):
        said = await small.fails()
    assert said.startswith(f"no space left on device: {small.base / 'run'} (0B of ")
    await small.works()


async def test_no_descriptors(small: SmallWorld) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        while (descriptor := os.open("/dev/null", os.O_RDONLY)) < 255:
            stack.callback(os.close, descriptor)
        stack.callback(os.close, descriptor)
        assert "too many open files" in await small.fails()
    await small.works()


async def test_what_a_container_limits_itself_to_is_not_the_hosts_want(world: RealWorld) -> None:
    few = (Ulimit(name="nofile", soft=3, hard=3),)
    with pytest.raises(RuntimeFailed, match="Too many open files") as raised:
        await world.runtime.create(world.custom("a1", ("/bin/true",), ulimits=few))
    assert not isinstance(raised.value, HostFailed)


async def test_a_read_only_disk_is_named(small: SmallWorld) -> None:
    state = small.base / "state"
    mount("-o", "remount,ro", str(state))
    said = await small.fails()
    mount("-o", "remount,rw", str(state))
    assert said.startswith(f"read-only file system: {state}")
    await small.works()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '[conmon:e]: cannot do it' >&2; exit 3", "conmon exited with 3: cannot do it"),
        ("kill -9 $$", "conmon was killed by signal 9: it gave no reason"),
        ("exit 0", "conmon exited with 0: it gave no reason"),
    ],
)
async def test_how_a_monitor_ended_is_told(
    world: RealWorld, tmp_path: Path, script: str, expected: str
) -> None:
    conmon = tmp_path / "conmon"
    conmon.write_text(f"#!/bin/sh\n{script}\n")
    conmon.chmod(0o755)
    world.binaries = Binaries(str(conmon), world.binaries.oci, world.binaries.kind)
    runtime = world.another()
    with pytest.raises(Exception, match=expected):
        await runtime.create(world.config("a1", Behaviour.RUNS))
    runtime.close()


def test_room_is_enough_or_told(tmp_path: Path, small: SmallWorld) -> None:
    look: Callable[[], str] = lambda: shortage((small.base / "run", small.base / "state"))  # noqa: E731
    assert look() == ""
    with small.inodes_left("state", INODES_NEEDED - 1):
        assert look().startswith(f"no space left on device: {small.base / 'state'}")
    assert "no such file or directory" in shortage((tmp_path / "gone",))
