"""The fake meter keeps the contract of the real one."""

import pytest

from agent.runtime.base import Details, Stats
from agent.stats.fake import FakeMeter
from tests.fixtures.meter_contract import MeterContract


class FakePlace:
    def __init__(self) -> None:
        self.meter = FakeMeter()

    async def run(self, container_id: str) -> None:
        limit = 64 << 20
        self.meter.used[container_id] = Stats(pids=1, memory_bytes=1, memory_limit_bytes=limit)
        self.meter.details[container_id] = Details(pids_limit=50)

    async def remove(self, container_id: str) -> None:
        del self.meter.used[container_id]


@pytest.fixture
def place() -> FakePlace:
    return FakePlace()


class TestFakeMeter(MeterContract):
    """Runs the contract."""
