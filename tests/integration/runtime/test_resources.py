"""Limits of CPUs, memory and disks: set in a new container, changed in a running one, and read from
its cgroup's files, which the container sees as well.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.runtime.base import CgroupLimits, ContainerConfig, DiskLimits, RuntimeFailed
from agent.runtime.running.limits import cpu_weight
from agent.tasks.ocispec_resources import cgroup_limits, written_limits
from pyswarm_core.docker.units import parse_set
from pyswarm_core.specs import Limits, Resources
from tests.fixtures.runtime_contract import Behaviour, run
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_running import execute, limit

MIB = 1 << 20
CPUS = sorted(os.sched_getaffinity(0))


def cpus(world: RealWorld) -> set[int]:
    return set(parse_set(limit(world, "cpuset/cpuset.cpus", "cpuset.cpus")))


def sleeper(world: RealWorld, **limits: object) -> ContainerConfig:
    """A container that sleeps, with these limits."""
    config = world.custom("a1", ("/bin/sleep", "1000"))
    resources = Resources(limits=Limits(**limits))  # type: ignore[arg-type]
    return replace(config, limits=written_limits(resources))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """The path of a disk whose scheduler is BFQ."""
    image = tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 8 * MIB)
    path = shell(f"losetup --find --show {image}")
    queue = Path("/sys/block", Path(path).name, "queue/scheduler")
    queue.write_text("bfq")
    yield path
    queue.write_text("none")
    shell(f"losetup --detach {path}")


def shell(command: str) -> str:
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def number_of(disk: str) -> str:
    return Path("/sys/block", Path(disk).name, "dev").read_text().strip()


async def test_a_new_container_has_every_limit_before_its_program_runs(world: RealWorld) -> None:
    config = sleeper(
        world,
        cpu_shares=512,
        cpu_period=50_000,
        cpu_quota=25_000,
        cpuset_cpus=str(CPUS[-1]),
        cpuset_mems="0",
        memory_reservation=32 * MIB,
    )
    await world.runtime.create(config)
    assert limit(world, "cpu/cpu.shares", "cpu.weight") == (
        "512" if world.host.hierarchies.v1 else str(cpu_weight(512))
    )
    assert cpus(world) == {CPUS[-1]}
    assert limit(world, "cpuset/cpuset.mems", "cpuset.mems") == "0"
    assert limit(world, "memory/memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
    if world.host.hierarchies.v1:
        assert limit(world, "cpu/cpu.cfs_period_us", "") == "50000"
        assert limit(world, "cpu/cpu.cfs_quota_us", "") == "25000"
    else:
        assert limit(world, "", "cpu.max") == "25000 50000"
    await world.runtime.start("a1")
    seen = await execute(world, "grep Cpus_allowed_list /proc/self/status")
    assert seen.output.split() == [b"Cpus_allowed_list:", str(CPUS[-1]).encode()]


async def test_limits_change_in_the_running_container_and_are_taken_away(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    assert (await execute(world, "true")).code == 0  # a command's cgroup has CPUs of its own on v1
    one, soft = CPUS[0], 16 * MIB
    some = Limits(cpu_shares=2048, cpuset_cpus=str(one), memory_reservation=soft, cpu_period=20_000)
    await world.runtime.update("a1", cgroup_limits(Resources(limits=some)))
    assert cpus(world) == {one}
    assert limit(world, "memory/memory.soft_limit_in_bytes", "memory.low") == str(soft)
    seen = await execute(world, "grep Cpus_allowed_list /proc/1/status /proc/self/status")
    assert [line.split()[-1] for line in seen.output.splitlines()] == [str(one).encode()] * 2
    await world.runtime.update("a1", CgroupLimits())
    assert cpus(world) in (set(CPUS), set())
    assert limit(world, "cpu/cpu.shares", "cpu.weight") in ("1024", "100")
    reserved = int(limit(world, "memory/memory.soft_limit_in_bytes", "memory.low"))
    assert reserved > 2**62 if world.host.hierarchies.v1 else reserved == 0
    seen = await execute(world, "grep Cpus_allowed_list /proc/1/status")
    assert parse_set(seen.output.split()[-1].decode()) == set(CPUS)


async def test_a_disk_is_throttled_and_no_longer(world: RealWorld, disk: str) -> None:
    path, number = disk, number_of(disk)
    some = DiskLimits(path=path, read_bps=10 * MIB, write_bps=20 * MIB, read_iops=100, write_iops=7)
    config = world.custom("a1", ("/bin/sleep", "1000"))
    await world.runtime.create(replace(config, limits=CgroupLimits(disks=(some,))))
    await world.runtime.start("a1")

    def read(kind: str) -> str:
        return limit(world, f"blkio/blkio.throttle.{kind}_device", "io.max")

    if world.host.hierarchies.v1:
        assert read("read_bps") == f"{number} {10 * MIB}"
        assert read("write_bps") == f"{number} {20 * MIB}"
        assert read("read_iops") == f"{number} 100"
        assert read("write_iops") == f"{number} 7"
    else:
        assert read("") == f"{number} rbps={10 * MIB} wbps={20 * MIB} riops=100 wiops=7"
    await world.runtime.update("a1", CgroupLimits(disks=(DiskLimits(path=path, read_iops=5),)))
    v2 = f"{number} rbps=max wbps=max riops=5 wiops=max"
    assert read("read_iops") == (f"{number} 5" if world.host.hierarchies.v1 else v2)
    await world.runtime.update("a1", CgroupLimits())
    assert [read(kind) for kind in ("read_bps", "write_bps", "read_iops", "write_iops")] == [""] * 4


async def test_what_is_read_is_bounded_by_the_time_that_passes(world: RealWorld, disk: str) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    limited = CgroupLimits(disks=(DiskLimits(path=disk, read_bps=2 * MIB),))
    await world.runtime.update("a1", limited)
    controller = "blkio" if world.host.hierarchies.v1 else "io"
    group = world.host.hierarchies.controller(controller, world.layout.cgroup("a1"))
    # The container's processes cannot open the disk, so this one has it open before it is one.
    read = "dd of=/dev/null bs=256k count=12 iflag=direct"
    began = time.monotonic()
    await asyncio.to_thread(shell, f"exec <{disk}; echo $$ >{group}/cgroup.procs; exec {read}")
    passed_s = time.monotonic() - began
    assert passed_s * 2 * MIB + MIB >= 3 * MIB, "the first moment may have some more"


async def test_weights_apply_where_the_scheduler_is_bfq(world: RealWorld, disk: str) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)

    def weights() -> dict[str, str]:
        shown = limit(world, "blkio/blkio.bfq.weight_device", "io.bfq.weight")
        lines = (line.split() for line in shown.splitlines())
        return {words[0]: words[1] for words in lines}

    some = CgroupLimits(blkio_weight=300, disks=(DiskLimits(path=disk, weight=50),))
    await world.runtime.update("a1", some)
    assert weights() == {"default": "300", number_of(disk): "50"}
    await world.runtime.update("a1", CgroupLimits())
    assert weights() == {"default": "100"}
    Path("/sys/block", Path(disk).name, "queue/scheduler").write_text("none")
    with pytest.raises(RuntimeFailed, match=f"block IO weight of {disk}: it has no effect"):
        await world.runtime.update("a1", some)
    assert weights() == {"default": "100"}


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(cpuset_cpus="8190-8191"), "invalid cpuset 8190-8191: this host has CPUs 0"),
        (Limits(cpuset_mems="900"), "invalid cpuset 900: this host has memory nodes 0"),
        (cgroup_limits(Resources()), "this host has no disk /dev/null"),
    ],
    ids=["cpus", "mems", "disk"],
)
async def test_what_the_host_lacks_is_named_and_nothing_changes(
    world: RealWorld, limits: Limits | CgroupLimits, told: str
) -> None:
    if isinstance(limits, Limits):
        wanted = cgroup_limits(Resources(limits=limits))
    else:
        wanted = replace(limits, disks=(DiskLimits(path="/dev/null", read_bps=1),))
    config = world.custom("a1", ("/bin/sleep", "1000"))
    with pytest.raises(RuntimeFailed, match=told):
        await world.runtime.create(replace(config, limits=wanted))
    assert await world.runtime.found() == ()
    await run(world, "a1", Behaviour.IGNORES_TERM)
    before = cpus(world)
    with pytest.raises(RuntimeFailed, match=told):
        await world.runtime.update("a1", replace(wanted, pids=44))
    assert cpus(world) == before
    assert limit(world, "pids/pids.max", "pids.max") == "max"


async def test_annotations_are_in_the_configuration_of_the_container(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sleep", "1000"), annotations={"org.example.team": "shop"})
    await world.runtime.create(config)
    bundle = world.layout.bundle("a1")
    assert '"org.example.team":"shop"' in (bundle / "config.json").read_text()
