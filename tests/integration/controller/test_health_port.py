"""The health port of a real controller: before it leads, while it leads, and while it is locked."""

import asyncio
import http.client
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyswarm_core.api.v1 import control_pb2
from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.processes import ControllerProcess, api


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdProcess]:
    process = EtcdProcess(tmp_path)
    process.start()
    yield process
    process.kill()


def status(address: str, path: str) -> int:
    """0 while nothing listens."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return 0
    finally:
        connection.close()


async def probed(address: str) -> tuple[int, int]:
    """The statuses of /healthz and /readyz."""
    found = [await asyncio.to_thread(status, address, path) for path in ("/healthz", "/readyz")]
    return found[0], found[1]


async def answers(address: str, expected: tuple[int, int]) -> None:
    async with asyncio.timeout(60):
        while await probed(address) != expected:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.05)


async def test_a_leader_is_ready_and_one_without_a_store_is_only_alive(
    controller: ControllerProcess, etcd: EtcdProcess
) -> None:
    await answers(controller.health, (200, 200))
    etcd.freeze()
    try:
        await answers(controller.health, (200, 503))
    finally:
        etcd.thaw()
    await answers(controller.health, (200, 200))


async def test_a_locked_controller_is_alive_and_not_ready(controller: ControllerProcess) -> None:
    await answers(controller.health, (200, 200))
    async with api(controller.socket) as stub:
        info = await stub.GetInfo(control_pb2.GetInfoRequest(), timeout=60)
        request = control_pb2.UpdateClusterRequest(
            version=info.cluster.version, spec=info.cluster.spec
        )
        request.spec.autolock = True
        key = (await stub.UpdateCluster(request, timeout=60)).unlock_key
        controller.end(signal.SIGKILL)
        controller.start()
        await answers(controller.health, (200, 503))
        await stub.Unlock(
            control_pb2.UnlockRequest(unlock_key=key), timeout=60, wait_for_ready=True
        )
        await answers(controller.health, (200, 200))
