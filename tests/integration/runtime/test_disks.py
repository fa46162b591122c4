"""Bytes and operations of disks are counted; the files of this machine's containers are on one."""

import pytest

from agent.runtime.usage.disks import count_disks
from tests.fixtures.meter_contract import read
from tests.fixtures.runtime_contract import until
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_usage import RealPlace

MIB = 1 << 20


@pytest.fixture
def place(world: RealWorld) -> RealPlace:
    return RealPlace(world)


async def test_what_a_container_writes_and_reads_is_counted(place: RealPlace) -> None:
    count_disks(place.world.host.hierarchies, place.world.cgroup_parent)
    write = "dd if=/dev/zero of=/file bs=1M count=5 oflag=direct"
    again = "dd if=/file of=/dev/null bs=1M count=3 iflag=direct"
    await place.run("a1", ("/bin/sh", "-c", f"({write}; {again}) 2>/dev/null; exec sleep 1000"))

    async def is_counted() -> bool:
        stats, details = read(place, "a1")["a1"].stats, place.details("a1")
        moved = stats.io_write_bytes >= 5 * MIB and stats.io_read_bytes >= 3 * MIB
        return moved and details.io_writes > 0 and details.io_reads > 0

    await until(is_counted)
