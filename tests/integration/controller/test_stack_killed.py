"""SIGKILL while a large stack is applied, over a real etcd: all of it is there, or nothing."""

import asyncio
import signal
from contextlib import suppress

import grpc
import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, stacks_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import STACK
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.stack import Stack
from tests.fixtures.stacks import network, payload, service, stack
from tests.integration.controller.fleet import WAIT_S
from tests.integration.controller.processes import ControllerProcess, api

SERVICES = 150
BIG = stack(
    "big",
    *(service("big", f"s{n}", replicas=0, secret="key") for n in range(SERVICES)),
    networks=(network("big"),),
    secrets=(payload("big", "key", b"one"),),
)


async def asked(stub: "control_pb2_grpc.ControlAsyncStub") -> tuple[list[Stack], int]:
    """The stacks, and the number of services, once a controller leads."""
    async with asyncio.timeout(2 * WAIT_S):
        while True:
            with suppress(grpc.aio.AioRpcError):
                request = pb.ListObjectsRequest(kind="stack")
                listed = [one async for one in stub.ListObjects(request)]
                parts = [one async for one in stub.ListServices(pb.ListRequest())]
                stacks = [STACK.decode(one.value) for part in listed for one in part.objects]
                return stacks, sum(len(part.services) for part in parts)
            await asyncio.sleep(0.1)


async def settled(stub: "control_pb2_grpc.ControlAsyncStub") -> tuple[list[Stack], int]:
    """The same, once the leader has nothing left to do."""
    async with asyncio.timeout(2 * WAIT_S):
        while True:
            stacks, services = await asked(stub)
            if not any(one.is_unfinished for one in stacks):
                return stacks, services
            await asyncio.sleep(0.1)


async def applied(
    stub: "control_pb2_grpc.ControlAsyncStub", message: stacks_pb2.ApplyStackRequest
) -> None:
    """Apply the stack, again where a busy store did not confirm in time."""
    async with asyncio.timeout(2 * WAIT_S):
        while True:
            try:
                await stub.ApplyStack(message)
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("delay_ms", [10, 60, 120, 250])
async def test_a_killed_controller_has_applied_all_or_nothing(
    controller: ControllerProcess, delay_ms: int
) -> None:
    request = ApplyStack(spec=BIG, resolve_image="never")
    async with api(controller.socket) as stub:
        await asked(stub)
        message = to_proto(request, stacks_pb2.ApplyStackRequest())
        call = asyncio.ensure_future(stub.ApplyStack(message))
        await asyncio.sleep(delay_ms / 1000)
        controller.end(signal.SIGKILL)
        with suppress(grpc.aio.AioRpcError):
            await call
        controller.start()
        stacks, services = await settled(stub)
        assert (len(stacks), services) in ((0, 0), (1, SERVICES))
        await applied(stub, message)
        stacks, services = await settled(stub)
        assert (len(stacks), services) == (1, SERVICES)
