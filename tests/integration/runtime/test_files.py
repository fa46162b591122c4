"""The files and processes of real containers: what changed, where they are, who runs."""

import os
from pathlib import Path
from typing import Any

import pytest

from agent.files.changes import changes
from agent.runtime.base import ContainerState, NotRunning, RuntimeFailed
from tests.fixtures.runtime_contract import until
from tests.integration.runtime.conftest import RealWorld


async def started(world: RealWorld, script: str, **spec: Any) -> None:
    """The container a1 has run the script and goes on."""
    command = ("/bin/sh", "-c", f"{script}; busybox touch /tmp/done; exec sleep 1000")
    await world.runtime.create(world.custom("a1", command, **spec))
    await world.runtime.start("a1")
    done = world.layout.writable("a1") / "upper" / "tmp" / "done"

    async def is_done() -> bool:
        return done.exists()

    await until(is_done)


async def changed(world: RealWorld) -> list[str]:
    rootfs = await world.runtime.rootfs("a1")
    rootfs.close()
    return [f"{change.kind} {change.path}" for change in changes(rootfs)]


async def test_a_container_that_wrote_nothing_has_no_changes(world: RealWorld) -> None:
    await world.runtime.create(world.custom("a1", ("/bin/sleep", "1000")))
    assert await changed(world) == []
    await world.runtime.start("a1")
    assert await changed(world) == []


async def test_changes_are_shown_as_docker_shows_them(world: RealWorld) -> None:
    script = (
        "echo x >> /etc/passwd; busybox rm /etc/group; busybox mkdir -p /new/deep"
        "; echo x > /new/deep/file; echo x >> /bin/garbage"
    )
    await started(world, script)
    assert await changed(world) == [
        "C /bin/garbage",
        "C /etc",
        "D /etc/group",
        "C /etc/passwd",
        "A /new",
        "A /new/deep",
        "A /new/deep/file",
        "C /tmp",
        "A /tmp/done",
    ]


async def test_what_was_replaced_has_changed(world: RealWorld) -> None:
    copied = "busybox cp /bin/garbage /bin/g; busybox mv /bin/g /bin/garbage"
    anew = "busybox rm -r /bin/orphan; busybox mkdir /bin/orphan; busybox chmod 700 /tmp"
    await started(world, f"{copied}; {anew}")
    assert await changed(world) == [
        "C /bin",
        "C /bin/garbage",
        "C /bin/orphan",
        "C /tmp",
        "A /tmp/done",
    ]


async def test_the_changes_of_a_stopped_container_are_there(world: RealWorld) -> None:
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", "echo x > /left")))
    await world.runtime.start("a1")

    async def has_ended() -> bool:
        (found,) = await world.runtime.found()
        return found.state is ContainerState.STOPPED

    await until(has_ended)
    assert await changed(world) == ["A /left"]


async def test_the_root_of_a_running_container_has_its_mounts(world: RealWorld) -> None:
    await started(world, "true")
    rootfs = await world.runtime.rootfs("a1")
    try:
        hosts = os.open("etc/hosts", os.O_RDONLY, dir_fd=rootfs.descriptor)
        with os.fdopen(hosts) as file:
            assert file.read() == "hosts of a1\n"
        assert not Path(rootfs.overlay, "etc/hosts").read_text()
    finally:
        rootfs.close()


async def test_a_container_that_does_not_exist_has_no_files(world: RealWorld) -> None:
    with pytest.raises(RuntimeFailed, match="no files"):
        await world.runtime.rootfs("nothing")


async def test_the_processes_of_a_container(world: RealWorld) -> None:
    await started(world, "sleep 999 & true")
    found = await world.runtime.top("a1", ())
    lines = [" ".join(row) for row in found.rows]
    assert found.titles[:2] == ("UID", "PID")
    assert len(lines) == 2
    assert any("sleep 999" in line for line in lines)
    assert any("sleep 1000" in line for line in lines)
    found = await world.runtime.top("a1", ("-o", "pid,args"))
    assert found.titles == ("PID", "COMMAND")


async def test_a_stopped_container_has_no_processes(world: RealWorld) -> None:
    with pytest.raises(NotRunning):
        await world.runtime.top("a1", ())
