"""What an attacker changes all the time: a large service that crash-loops, networks, labels."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import grpc

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import NETWORK
from pyswarm_core.limits import REPLICAS_MAX
from pyswarm_core.specs import (
    ContainerSpec,
    Ipam,
    IpamConfig,
    NetworkSpec,
    ReplicatedMode,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from tests.fixtures.parts import whole

Count = Callable[[str, Awaitable[object]], Awaitable[None]]
"""Awaits a call and counts it under that name and its status."""

CALL_TIMEOUT_S = 10.0
NETWORKS = 1_000
MAKERS = 4
"""Of networks, at once."""
LABEL = "attack"
REPLICAS = (REPLICAS_MAX, 1, 5_000)
STEP_S = 3.0
"""The service has so long to crash between two changes."""
PAUSE_S = 0.1
"""Between two changes of one maker: a flood, but not the measure of a machine."""


class Churn:
    """Changes, until `over`; what it made is removed by then or by whoever removes all."""

    def __init__(
        self, users: "control_pb2_grpc.ControlAsyncStub", counted: Count, over: Callable[[], bool]
    ) -> None:
        self._users = users
        self._count = counted
        self._over = over

    async def crash_loop(self, name: str) -> None:
        """One service, as large as may be, whose tasks fail at once and are replaced at once: made,
        scaled, updated and removed.
        """
        while not self._over():
            spec = _failing(name, REPLICAS_MAX)
            request = pb.CreateServiceRequest()
            to_proto(spec, request.spec)
            await self._call("crash create", self._users.CreateService, request)
            for number in count(1):
                await asyncio.sleep(STEP_S)
                if self._over() or number > 2 * len(REPLICAS):
                    break
                await self._update(name, number)
            await self._call(
                "crash remove", self._users.RemoveService, pb.RemoveServiceRequest(ref=name)
            )

    async def _update(self, name: str, number: int) -> None:
        """Every second change has another template."""
        try:
            found = await self._users.GetService(pb.RefRequest(ref=name), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return
        request = pb.UpdateServiceRequest(ref=name, version=found.service.version)
        spec = _failing(name, REPLICAS[number % len(REPLICAS)], generation=number // 2)
        to_proto(spec, request.spec)
        await self._call("crash update", self._users.UpdateService, request)

    async def shake_networks(self, maker: int) -> None:
        """Make this maker's share of NETWORKS, then remove it, again and again."""
        mine = range(maker, NETWORKS, MAKERS)
        while not self._over():
            made = []
            for number in mine:
                if self._over():
                    break
                creation = pb.CreateNetworkRequest()
                to_proto(_network(number), creation.spec)
                await self._call("network", self._users.CreateNetwork, creation)
                made.append(number)
                await asyncio.sleep(PAUSE_S)
            for number in made:
                request = pb.ObjectRequest(kind=NETWORK.name, ref=_network(number).name)
                await self._call("network remove", self._users.RemoveObject, request)

    async def relabel(self) -> None:
        """Give every host another label, all the time; in the end none."""
        for number in count():
            over = self._over()
            for view in await self._nodes():
                request = pb.UpdateNodeRequest(ref=view.node.id, version=view.node.version)
                request.spec.CopyFrom(view.node.spec)
                request.spec.labels.pop(LABEL, None)
                if not over:
                    request.spec.labels[LABEL] = str(number)
                await self._call("relabel", self._users.UpdateNode, request)
            if over:
                return
            await asyncio.sleep(PAUSE_S)

    async def _nodes(self) -> list[pb.NodeView]:
        listing = self._users.ListNodes(pb.ListRequest(), timeout=CALL_TIMEOUT_S)
        try:
            return list((await whole(pb.ListNodesReply, listing)).nodes)
        except grpc.aio.AioRpcError:
            return []

    async def _call(
        self, name: str, method: Callable[..., Awaitable[object]], request: object
    ) -> None:
        await self._count(name, method(request, timeout=CALL_TIMEOUT_S))


def _failing(name: str, replicas: int, generation: int = 0) -> ServiceSpec:
    container = ContainerSpec(image="absent:1", env=(f"GENERATION={generation}",))
    policy = RestartPolicy(delay=0, max_attempts=0)
    return ServiceSpec(
        name=name,
        task_template=TaskSpec(container_spec=container, restart_policy=policy),
        mode=ReplicatedMode(replicas=replicas),
    )


def _network(number: int) -> NetworkSpec:
    subnet = IpamConfig(subnet=f"10.{160 + number // 256}.{number % 256}.0/24")
    return NetworkSpec(name=f"attack-many{number}", ipam=Ipam(config=(subnet,)))
