"""A leader whose event loop computes for longer than its lease lives goes on leading."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from pyswarm_core.clock import seconds
from pyswarm_core.keys import Keys
from pyswarm_core.limits import LEADER_TTL
from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.fleet import config, leading, serving


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdProcess]:
    process = EtcdProcess(tmp_path)
    process.start()
    yield process
    process.kill()


async def test_its_lease_is_renewed_meanwhile(etcd: EtcdProcess, tmp_path: Path) -> None:
    key = Keys().leader
    async with (
        EtcdStore(EtcdSettings((etcd.endpoint,))) as store,
        serving(config(tmp_path / "one"), store) as controller,
    ):
        await leading(controller)
        before = await store.get(key)
        busy_until = time.monotonic() + 2 * seconds(LEADER_TTL)
        # Holds this event loop and competes for the GIL, half of the time: on a loaded machine more
        # than that would leave etcd and the renewal no processor for the lease's whole life.
        while (now := time.monotonic()) < busy_until:
            while time.monotonic() < now + 0.05:
                pass
            time.sleep(0.05)  # noqa: ASYNC251 -- the loop is to be held
        assert controller.leading
        after = await store.get(key)
        assert before is not None
        assert after is not None
        assert after.create_revision == before.create_revision
