"""Volumes on block devices of the node, with file systems that are modules. tests/vm/run."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes.child import mounts_below
from tests.integration.runtime.test_volume_drivers import Host, names
from tests.vm.slow import ANSWERS

TOOLS = Path(os.environ["PYSWARM_BTRFS_TOOLS"])
"""Where btrfs-progs is unpacked: scripts/vm."""
MAKE: dict[str, list[str | Path]] = {
    "btrfs": [TOOLS / "sbin/mkfs.btrfs", "-q"],
    "ext4": ["mkfs.ext4", "-q"],
}
OPTIONS = {
    "btrfs": ("noatime,compress=zstd", "compress=zstd:3"),
    "ext4": ("noatime,commit=7", "commit=7"),
}
"""What is given, and what the kernel says of it."""
FILES = {"btrfs": ["of-image"], "ext4": ["lost+found"]}
"""Of a new volume: it gets the image's files if it is empty, as in Docker."""


@pytest.fixture(params=MAKE)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def device(kind: str, tmp_path: Path) -> Iterator[str]:
    """A block device with an empty file system."""
    image = tmp_path / "device"
    subprocess.run(["truncate", "--size", "128M", str(image)], check=True)
    env = {**os.environ, "LD_LIBRARY_PATH": str(TOOLS / "lib/x86_64-linux-gnu")}
    subprocess.run([*MAKE[kind], image], check=True, env=env)
    made = ["losetup", "--find", "--show", str(image)]
    name = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
    yield name
    subprocess.run(["losetup", "--detach", name], check=True)


def line(data: Path) -> str:
    """What the kernel says of the mount."""
    mounts = Path("/proc/mounts").read_text().split("\n")
    (found,) = [one for one in mounts if f" {data} " in one]
    return found


async def test_the_local_driver_mounts_a_device_and_its_removal_deletes_none(
    kind: str, device: str, host: Host
) -> None:
    words, told = OPTIONS[kind]
    options = {"type": kind, "device": device, "o": words}
    agent = host.agent(ANSWERS)
    data = await host.ready(agent, options)
    assert names(data) == FILES[kind]
    source, _, found, flags, *_ = line(data).split(" ")
    assert (source, found) == (device, kind)
    assert {"noatime", told} <= set(flags.split(","))
    (data / "written").write_text("kept")
    await agent.release("iddata", lambda: ())
    assert mounts_below(str(host.path())) == []
    assert (await host.ready(host.agent(ANSWERS), options) / "written").read_text() == "kept"
    await agent.remove("iddata")
    assert mounts_below(str(host.state)) == []
    assert (await host.ready(agent, options, "again") / "written").read_text() == "kept"
    await agent.release("idagain", lambda: ())


async def test_a_device_with_another_file_system_is_refused(
    kind: str, device: str, host: Host
) -> None:
    other = next(one for one in MAKE if one != kind)
    told = f"cannot mount {device}: Invalid argument: the file system {other} does not take"
    with pytest.raises(RuntimeFailed, match=told):
        await host.ready(host.agent(ANSWERS), {"type": other, "device": device})
