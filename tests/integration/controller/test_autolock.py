"""Autolock over a real etcd: a controller that was killed serves nothing but Unlock."""

import asyncio
import signal
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.identity.autolock import LockedKey
from controller.identity.keyfile import load_keys
from controller.identity.keyring import LOCKED
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.api.v1 import audit_pb2, control_pb2, control_pb2_grpc
from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.fleet import WAIT_S, until, web
from tests.integration.controller.processes import ControllerProcess, api, created, info

UNLOCKABLE = grpc.StatusCode.UNAVAILABLE


@asynccontextmanager
async def health(address: str) -> AsyncIterator["health_pb2_grpc.HealthAsyncStub"]:
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def updated(stub: "control_pb2_grpc.ControlAsyncStub", *, autolock: bool) -> str:
    """Set or end autolock; the unlock key of the answer."""
    cluster = (await info(stub)).cluster
    request = control_pb2.UpdateClusterRequest(version=cluster.version, spec=cluster.spec)
    request.spec.autolock = autolock
    return (await stub.UpdateCluster(request, timeout=60)).unlock_key


async def unlocked(stub: "control_pb2_grpc.ControlAsyncStub", key: str) -> str:
    """Unlock; the error, if it is refused. Waits until the controller listens."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await stub.Unlock(control_pb2.UnlockRequest(unlock_key=key), timeout=60)
            except grpc.aio.AioRpcError as error:
                details = error.details() or ""
                if error.code() is not UNLOCKABLE:
                    return details
                await asyncio.sleep(0.05)
            else:
                return ""


async def refused(stub: "control_pb2_grpc.ControlAsyncStub") -> str:
    """What every other call is told, unary or a stream."""
    with pytest.raises(grpc.aio.AioRpcError) as unary:
        await stub.GetInfo(control_pb2.GetInfoRequest(), timeout=60)
    with pytest.raises(grpc.aio.AioRpcError) as stream:
        async for _ in stub.ListServices(control_pb2.ListRequest(), timeout=60):
            pass
    assert unary.value.code() is stream.value.code() is UNLOCKABLE
    assert unary.value.details() == stream.value.details()
    return unary.value.details() or ""


async def recorded(stub: Any, verb: str) -> list[audit_pb2.AuditRecord]:
    """The records with that verb, once there are any: they are stored behind."""
    async with asyncio.timeout(WAIT_S):
        while True:
            request = audit_pb2.ListAuditRequest()
            parts = [part async for part in stub.ListAudit(request, timeout=60)]
            if found := [one for part in parts for one in part.records if one.verb == verb]:
                return found
            await asyncio.sleep(0.05)


async def test_a_killed_controller_is_locked_until_it_has_the_key(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "encryption.key"
    async with api(controller.socket) as stub, health(controller.socket) as probe:
        await info(stub)
        await created(stub, web(2))
        key = await updated(stub, autolock=True)
        assert isinstance(load_keys(file)[0], LockedKey), "locked when the answer comes"
        assert file.stat().st_mode & 0o777 == 0o600
        shown = await stub.GetUnlockKey(control_pb2.GetUnlockKeyRequest(), timeout=60)
        assert shown.unlock_key == key
        assert await unlocked(stub, key) == "swarm is not locked"
        controller.end(signal.SIGKILL)
        controller.start()
        other = "SWMKEY-1-" + b64encode(bytes(32)).decode().rstrip("=")
        assert (await unlocked(stub, other)).startswith("invalid key: it does not unlock")
        assert (await unlocked(stub, "no key")).startswith("the unlock key is not valid: expected")
        assert await refused(stub) == LOCKED
        for service in ("", "pyswarm.v1.Control"):
            request = health_pb2.HealthCheckRequest(service=service)
            assert (await probe.Check(request)).status == 2  # NOT_SERVING
        assert (tmp_path / "api.sock").stat().st_mode & 0o777 == 0o600
        before = time.time_ns()
        assert await unlocked(stub, key) == ""
        unlocked_by = time.time_ns()
        assert (await info(stub)).services == 1
        (record,) = await recorded(stub, "swarm unlock")
        assert (record.caller, record.address, record.result) == ("root", "socket", "ok")
        assert before <= record.at <= unlocked_by
        assert await updated(stub, autolock=False) == ""
        assert isinstance(load_keys(file)[0], bytes)
        controller.end(signal.SIGKILL)
        controller.start()
        assert (await info(stub)).services == 1
        assert key not in controller.log


async def test_followers_lock_too(
    controller: ControllerProcess, etcd: EtcdProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "f" / tmp_path.name  # its name is the prefix of the keys
    folder.mkdir(parents=True)
    file = folder / "encryption.key"
    async with api(controller.socket) as stub:
        key = await updated(stub, autolock=False) or "none"
        file.write_bytes((tmp_path / "encryption.key").read_bytes())
        file.chmod(0o600)
        follower = ControllerProcess(folder, etcd)
        follower.start()
        try:
            key = await updated(stub, autolock=True)
            await until(
                lambda: isinstance(load_keys(file)[0], LockedKey), "the follower's is locked"
            )
            before = file.read_text()
            request = control_pb2.GetUnlockKeyRequest(rotate=True)
            rotated = (await stub.GetUnlockKey(request, timeout=60)).unlock_key
            assert rotated != key
            await until(lambda: file.read_text() != before, "it is locked with the new key")
        finally:
            follower.end(signal.SIGKILL)
        follower.start()
        try:
            async with api(follower.socket) as locked:
                assert (await unlocked(locked, key)).startswith("invalid key")
                assert await unlocked(locked, rotated) == ""
        finally:
            follower.end(signal.SIGKILL)
