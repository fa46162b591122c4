"""Volumes on a real NFS server, in a machine whose kernel has one. tests/vm/run."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes.child import mounts_below
from pyswarm_core.docker.units import format_duration
from tests.integration.runtime.test_volume_drivers import Host, names
from tests.vm.slow import ANSWERS, HANGS

TOOLS = Path(os.environ["PYSWARM_NFS_TOOLS"])
"""Where nfs-kernel-server is unpacked: scripts/vm."""


def tool(name: str, *words: str) -> None:
    libraries = f"{TOOLS}/usr/lib/x86_64-linux-gnu:{TOOLS}/lib/x86_64-linux-gnu"
    env = {**os.environ, "LD_LIBRARY_PATH": libraries}
    subprocess.run([f"{TOOLS}/usr/sbin/{name}", *words], check=True, env=env, timeout=120)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that NFS 4.2 exports on the loopback interface, on a disk of its own: nfsd
    exports no overlay.
    """
    top = tmp_path_factory.mktemp("nfs")
    subprocess.run(["truncate", "--size", "64M", str(top / "image")], check=True)
    subprocess.run(["mkfs.ext4", "-q", str(top / "image")], check=True)
    exported = top / "exported"
    exported.mkdir()
    subprocess.run(["mount", "-o", "loop", str(top / "image"), str(exported)], check=True)
    Path("/etc/exports").touch()
    Path("/var/lib/nfs/v4recovery").mkdir(parents=True, exist_ok=True)
    for name in ("etab", "rmtab"):
        Path("/var/lib/nfs", name).touch()
    subprocess.run(["mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd"], check=False)
    Path("/proc/fs/nfsd/nfsv4gracetime").write_text("10")
    tool("exportfs", "-o", "rw,no_root_squash,fsid=0,insecure,no_subtree_check", f"*:{exported}")
    tool("rpc.mountd", "--no-nfs-version", "2", "--no-nfs-version", "3")
    tool("rpc.nfsd", "--no-nfs-version", "3", "--nfs-version", "4.2", "2")
    (exported / "data").mkdir()
    yield exported
    tool("rpc.nfsd", "0")
    tool("exportfs", "-au")


LOCAL = {"type": "nfs", "device": ":/data", "o": "addr=localhost,rw,nfsvers=4.2"}


async def test_two_hosts_share_the_files_and_a_removal_deletes_none(
    share: Path, host: Host, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other")
    agent, second = host.agent(ANSWERS), other.agent(ANSWERS)
    data = await host.ready(agent, LOCAL)
    assert names(data) == names(share / "data") == ["of-image"]
    there = await other.ready(second, LOCAL)
    (there / "written").write_text("over there")
    assert (data / "written").read_text() == "over there"
    await second.remove("iddata")
    await agent.release("iddata", lambda: ())
    assert mounts_below(str(host.path())) == []
    assert sorted(names(share / "data")) == ["of-image", "written"]
    assert (await host.ready(agent, LOCAL) / "written").read_text() == "over there"
    await agent.remove("iddata")
    assert sorted(names(share / "data")) == ["of-image", "written"]
    second.close()


async def test_the_driver_nfs_is_a_short_form(share: Path, host: Host) -> None:
    data = await host.ready(host.agent(ANSWERS), {"share": "localhost:/data"}, driver="nfs")
    (data / "short").write_text("form")
    assert (share / "data" / "short").read_text() == "form"


async def test_a_directory_that_is_not_exported_fails_the_task(share: Path, host: Host) -> None:
    options = {"share": "localhost:/none"}
    with pytest.raises(RuntimeFailed, match="cannot mount localhost:/none: No such file"):
        await host.ready(host.agent(ANSWERS), options, driver="nfs")


async def test_a_server_that_stops_fails_its_task_and_can_be_unmounted(
    share: Path, host: Host
) -> None:
    agent = host.agent(ANSWERS)
    await host.ready(agent, LOCAL)
    tool("rpc.nfsd", "0")
    try:
        late = host.agent(HANGS)
        with pytest.raises(RuntimeFailed, match=f"has not answered for {format_duration(HANGS)}"):
            await host.ready(late, LOCAL)
        await late.release("iddata", lambda: ())
        assert mounts_below(str(host.path())) == []
    finally:
        tool("rpc.nfsd", "--no-nfs-version", "3", "--nfs-version", "4.2", "2")
