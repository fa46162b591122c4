"""What is read of real containers, on cgroup v1 and v2."""

import asyncio
from pathlib import Path

import pytest

from agent.network.names import Names
from agent.runtime.base import CgroupLimits, Details
from agent.runtime.usage.reading import Reader
from agent.stats.kernel import KernelMeter
from tests.fixtures.meter_contract import MeterContract, read
from tests.fixtures.runtime_contract import until
from tests.integration.runtime.conftest import RealWorld

BUSY = ("/bin/sh", "-c", "while :; do :; done")
LIMIT = 64 << 20


class RealPlace:
    """A real runtime's containers."""

    def __init__(self, world: RealWorld) -> None:
        self.world = world
        reader = Reader(world.host.hierarchies)
        self.meter = KernelMeter(reader, world.layout.cgroup, Names("test1"))

    async def run(self, container_id: str, command: tuple[str, ...] = BUSY) -> None:
        config = self.world.custom(container_id, command, memory=LIMIT, pids=50)
        await self.world.runtime.create(config)
        await self.world.runtime.start(container_id)

    async def remove(self, container_id: str) -> None:
        await self.world.runtime.remove(container_id, keep_logs=False)

    def details(self, container_id: str) -> Details:
        details = read(self, container_id, details=True)[container_id].details
        assert details
        return details


@pytest.fixture
def place(world: RealWorld) -> RealPlace:
    return RealPlace(world)


class TestKernelMeter(MeterContract):
    """Runs the contract."""


async def test_time_is_counted_by_mode_and_throttling_by_period(place: RealPlace) -> None:
    await place.run("a1")
    # So little that it is throttled on a busy machine too.
    await place.world.runtime.update("a1", CgroupLimits(cpu_quota_us=2_000))

    async def is_throttled() -> bool:
        found = place.details("a1")
        counted = (found.user_ns, found.throttled_periods, found.throttled_ns)
        return all(counted) and found.periods >= found.throttled_periods

    await until(is_throttled)


async def test_memory_is_counted_by_kind_and_file_cache_that_can_go_is_left_out(
    place: RealPlace,
) -> None:
    write = "dd if=/dev/zero of=/file bs=1M count=30; dd if=/dev/zero of=/dev/shm/x bs=1M count=10"
    await place.run("a1", ("/bin/sh", "-c", f"({write}) 2>/dev/null; exec sleep 1000"))

    async def has_written() -> bool:
        details = place.details("a1")
        return details.cache_bytes > 39 << 20 and 0 < details.rss_bytes < 10 << 20

    await until(has_written)

    async def is_the_rest() -> bool:
        # What is in /dev/shm cannot go. The file's cache can, unless the file is in memory.
        left_out = _used(place) - read(place, "a1")["a1"].stats.memory_bytes
        return abs(left_out - _droppable(place)) < 2 << 20 and left_out < 31 << 20

    await until(is_the_rest)


def _used(place: RealPlace) -> int:
    return int(_file(place, "memory.usage_in_bytes", "memory.current"))


def _droppable(place: RealPlace) -> int:
    name = "total_inactive_file" if place.world.host.hierarchies.v1 else "inactive_file"
    lines = _file(place, "memory.stat", "memory.stat").splitlines()
    (size,) = [int(line.split()[1]) for line in lines if line.split()[0] == name]
    return size


def _file(place: RealPlace, v1: str, v2: str) -> str:
    hierarchies, cgroup = place.world.host.hierarchies, place.world.layout.cgroup("a1")
    directory = hierarchies.controller("memory", cgroup)
    assert directory
    return (directory / (v1 if hierarchies.v1 else v2)).read_text()


async def test_processes_that_were_killed_for_memory_are_counted(place: RealPlace) -> None:
    eat = "dd if=/dev/zero of=/dev/null bs=200M count=1"
    await place.run("a1", ("/bin/sh", "-c", f"({eat}) 2>/dev/null; exec sleep 1000"))

    async def was_killed() -> bool:
        return place.details("a1").oom_kills == 1

    await until(was_killed)


async def test_stalls_are_read_where_the_kernel_counts_them(place: RealPlace) -> None:
    await place.run("a1")
    unified = place.world.host.hierarchies.unified
    has_psi = Path(f"{unified}{place.world.layout.cgroup('a1')}/cpu.pressure").exists()
    found = {resource for resource, _ in place.details("a1").stalled_ns}
    assert found == ({"cpu", "memory", "io"} if has_psi else set())


async def test_many_readings_at_once_are_right(place: RealPlace) -> None:
    for name in ("a1", "a2", "a3"):
        await place.run(name)
    readings = await asyncio.gather(
        *(asyncio.to_thread(read, place, "a1", "a2", "a3") for _ in range(20))
    )
    assert {tuple(reading) for reading in readings} == {("a1", "a2", "a3")}
