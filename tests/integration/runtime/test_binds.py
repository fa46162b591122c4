"""Binds in real containers, of crun and of runc: images and containers that place symbolic links
where a mount comes from or goes to. Each attack of a public report is a test.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.preflight import Preflight
from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation.binds import source_of
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures.runtime_contract import exit_of
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_containers import lines, written

BIND = MountType.BIND


@pytest.fixture(params=["crun", "runc"])
async def world(
    request: pytest.FixtureRequest, host: Preflight, rootfs: Path
) -> AsyncIterator[RealWorld]:
    kind = request.param
    path = host.binaries.oci if kind == "crun" else "/usr/sbin/runc"
    with tempfile.TemporaryDirectory(prefix="pyswarm-binds") as base:
        binaries = replace(host.binaries, oci=path, kind=kind)
        made = RealWorld(host, binaries, rootfs, Path(base))
        yield made
        await made.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host that no container may reach."""
    found = tmp_path / "outside"
    found.mkdir()
    (found / "secret").write_text("secret\n")
    return found


def image(world: RealWorld, tmp_path: Path, **links: str) -> None:
    """Add symbolic links to the image of the world."""
    layer = tmp_path / "links"
    layer.mkdir()
    for name, target in links.items():
        (layer / name).symlink_to(target)
    world.layers = (str(layer), *world.layers)


def mount_points() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


async def shown(world: RealWorld, script: str, *mounts: Mount) -> list[str]:
    """What a script prints in a container with these binds."""
    binds = tuple(map(source_of, mounts))
    config = world.custom(
        "a1",
        ("/bin/sh", "-c", script),
        mounts=mounts,
        sources={bind.target: bind.path for bind in binds},
        binds=binds,
    )
    await world.runtime.create(config)
    await world.runtime.start("a1")
    await exit_of(world.runtime, "a1")
    return written(await lines(world, "a1")).decode().split("\n")[:-1]


@pytest.mark.parametrize(
    "link", ["/etc", "../../../../../../../../etc", "/tmp", "../../../../../../tmp"]
)
async def test_a_target_that_is_a_link_of_the_image_stays_in_its_root(
    world: RealWorld, tmp_path: Path, outside: Path, link: str
) -> None:
    before = sorted(entry.name for entry in Path("/etc").iterdir())
    image(world, tmp_path, data=link)
    said = await shown(
        world,
        "cat /data/secret; echo written > /data/new",
        Mount(type=BIND, source=str(outside), target="/data"),
    )
    assert said == ["secret"]
    assert (outside / "new").read_text() == "written\n"
    assert sorted(entry.name for entry in Path("/etc").iterdir()) == before


async def test_a_source_exchanged_after_it_was_resolved_is_not_mounted(
    world: RealWorld, tmp_path: Path, outside: Path
) -> None:
    """CVE-2017-1002101, CVE-2021-25741: another container exchanges the source for a link."""
    source = tmp_path / "srv" / "app"
    source.mkdir(parents=True)
    mount = Mount(type=BIND, source=str(source), target="/data")
    bind = source_of(mount)
    source.rmdir()
    source.symlink_to(outside)
    config = world.custom(
        "a1",
        ("/bin/sh", "-c", "cat /data/secret"),
        mounts=(mount,),
        sources={"/data": bind.path},
        binds=(bind,),
    )
    with pytest.raises(RuntimeFailed, match="was replaced while it was mounted"):
        await world.runtime.create(config)
    assert await world.runtime.found() == ()


@pytest.mark.parametrize("link", ["/", "/../../..", "../../../../../.."])
async def test_a_link_in_a_shared_volume_leads_no_second_mount_out(
    world: RealWorld, tmp_path: Path, outside: Path, link: str
) -> None:
    """CVE-2021-30465: the target of a mount lies in a volume that another container writes."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "sub").symlink_to(f"{link}{outside}")
    victim = tmp_path / "victim"
    victim.mkdir()
    before = mount_points()
    mounts = (
        Mount(type=BIND, source=str(volume), target="/volume"),
        Mount(type=BIND, source=str(victim), target="/volume/sub"),
    )
    script = f"cat /volume/sub/secret; touch {outside}/seen /volume/sub/seen; echo done"
    with suppress(RuntimeFailed):  # of crun, if the path does not exist in the container
        assert "secret" not in await shown(world, script, *mounts)
        assert (victim / "seen").exists()
        await world.runtime.remove("a1", keep_logs=False)
    assert [entry.name for entry in outside.iterdir()] == ["secret"]
    assert mount_points() == before


@pytest.mark.parametrize("target", ["/proc", "../proc", "proc/self"])
async def test_a_link_to_proc_in_the_image_is_no_target(
    world: RealWorld, tmp_path: Path, outside: Path, target: str
) -> None:
    """CVE-2023-27561, CVE-2023-28642: a mount over /proc makes the runtime's writes to it wrong."""
    image(world, tmp_path, data=target)
    with pytest.raises(RuntimeFailed):
        await shown(
            world, "cat /data/secret", Mount(type=BIND, source=str(outside), target="/data")
        )
    assert await world.runtime.found() == ()


async def test_no_descriptor_and_no_directory_of_the_runtime_is_in_the_container(
    world: RealWorld, outside: Path
) -> None:
    """CVE-2024-21626: a working directory in a leaked descriptor leads to the host."""
    said = await shown(
        world,
        "for fd in /proc/self/fd/*; do busybox readlink $fd; done; pwd",
        Mount(type=BIND, source=str(outside), target="/data"),
    )
    assert not [line for line in said if line.startswith(("/sys/fs/cgroup", str(outside)))]
    assert said[-1] == "/"


@pytest.mark.parametrize("source", ["/proc/self/root/etc", "/proc/self/cwd", "/dev/fd/0"])
def test_a_source_behind_a_magic_link_is_refused(source: str) -> None:
    with pytest.raises(RuntimeFailed, match="it leads through a magic link of /proc"):
        source_of(Mount(type=BIND, source=source, target="/data"))


async def test_files_and_read_only_directories_are_mounted(
    world: RealWorld, outside: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to("outside/secret")
    said = await shown(
        world,
        "cat /etc/x; touch /data/new 2>/dev/null || echo refused",
        Mount(type=BIND, source=str(link), target="/etc/x"),
        Mount(type=BIND, source=str(outside), target="/data", read_only=True),
    )
    assert said == ["secret", "refused"]
