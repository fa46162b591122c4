"""Controllers as processes over a real etcd, and clients of them."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2, control_pb2_grpc
from tests.fixtures.etcd import EtcdProcess
from tests.fixtures.ports import free_port
from tests.integration.controller.fleet import WAIT_S

ROOT = Path(__file__).parents[3]


class ControllerProcess:
    """`python -m controller`, killed and started again over one state directory."""

    def __init__(self, folder: Path, etcd: EtcdProcess, heartbeat: str = "5s") -> None:
        self.socket = f"unix:{folder}/api.sock"
        self.address = f"127.0.0.1:{free_port()}"
        self.health = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._command = [
            *(sys.executable, "-m", "controller"),
            f"--state-dir={folder}",
            f"--listen={self.socket}",
            f"--listen={self.address}",
            f"--advertise-addr={self.address}",
            f"--etcd-endpoints={etcd.endpoint}",
            f"--etcd-prefix=/{folder.name}",
            "--metrics-addr=",
            "--health-addr=",
            f"--health-addr={self.health}",
            f"--heartbeat-period={heartbeat}",
            "--no-registry",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._command, *more], cwd=ROOT, stderr=log)

    def exited(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(WAIT_S)

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(WAIT_S)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()


@asynccontextmanager
async def api(address: str) -> AsyncIterator["control_pb2_grpc.ControlAsyncStub"]:
    async with channel(address, None, aio=True) as connection:
        yield control_pb2_grpc.ControlStub(connection)


async def info(stub: "control_pb2_grpc.ControlAsyncStub") -> control_pb2.GetInfoReply:
    """What the leader says of itself, as soon as there is one."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await stub.GetInfo(control_pb2.GetInfoRequest(), timeout=10)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


async def join_token(stub: "control_pb2_grpc.ControlAsyncStub") -> str:
    """The token of the fleet, once there is a leader."""
    await info(stub)
    return (await stub.GetJoinToken(control_pb2.GetJoinTokenRequest(), timeout=10)).token


async def created(
    stub: "control_pb2_grpc.ControlAsyncStub", request: control_pb2.CreateServiceRequest
) -> None:
    """Create a service. Where a busy machine costs the leader its lease, nobody knows whether it
    exists, and a user requests it again.
    """
    is_again = False
    async with asyncio.timeout(2 * WAIT_S):
        while True:
            try:
                await stub.CreateService(request, timeout=60)
                return
            except grpc.aio.AioRpcError as error:
                if is_again and error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    return
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            is_again = True
            await asyncio.sleep(0.05)


async def running(stub: "control_pb2_grpc.ControlAsyncStub", count: int) -> None:
    """Return when `count` tasks run and `count` are stored."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await info(stub)
            if found.tasks_running == count and found.tasks == count:
                return
            await asyncio.sleep(0.05)
