"""TraceNetwork over real gRPC: who is asked what, and what becomes of the answers."""

import asyncio
from collections.abc import Callable, Sequence

import grpc
import pytest
from msgspec.structs import replace

from controller.leader.tunnels import DIAL_TIMEOUT_S, Tunnels
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Block, Endpoint, VirtualIp
from pyswarm_core.traces import Attempt, Difference, Facts, Hop, TraceProbe
from tests.fixtures.build import Numbered
from tests.integration.controller.conftest import Api
from tests.unit.controller.leader.endpoints.build import NET, WEB, backend, world

VIP, THERE = "10.128.255.254", "10.128.0.2"
WHOLE = Facts(
    revision=1,
    name=Attempt(to="web", addresses=(VIP,)),
    backends=("10.128.0.1", THERE),
    task_route="src 10.128.0.1 src 10.128.0.2",
    echo=Attempt(bytes=84),
    full_echo=Attempt(bytes=1450),
    listeners=("0.0.0.0:80",),
    exposed_ports=(80,),
    connections=(Attempt(to=THERE), Attempt(to=VIP)),
)
BLOCKS = (Block(cidr="10.128.0.1/32", node_number=1), Block(cidr=f"{THERE}/32", node_number=2))
Frames = Sequence[dp.TunnelFrame | None]


class Agents:
    """Answer every probe with the same facts, and remember who was asked what."""

    def __init__(self, api: Api) -> None:
        self.probes: list[tuple[str, TraceProbe]] = []
        desk = api.desk
        stored = world(backend("web.1"), backend("web.2", "n2"))
        service = replace(
            stored.services[WEB],
            endpoint=Endpoint(virtual_ips=(VirtualIp(network_id=NET, addr=VIP),)),
        )
        desk.put(
            Writes(
                objects=(replace(stored.networks[NET], blocks=BLOCKS), service),
                tasks=list(stored.tasks.values()),
            )
        )
        for name in ("n1", "n2"):
            desk.agents[NodeId(name)] = self.telling(name, WHOLE)

    def telling(self, name: str, facts: Facts) -> Callable[[dp.OpenTunnel], Frames]:
        def answer(request: dp.OpenTunnel) -> Frames:
            self.probes.append((name, from_proto(TraceProbe, request.trace)))
            return [dp.TunnelFrame(trace_facts=to_proto(facts, dp.TraceFacts()))]

        return answer


async def traced(api: Api, target: str = "web", port: int = 0) -> list[Hop]:
    request = pb.TraceNetworkRequest(source="web.1", target=target, port=port)
    return [from_proto(Hop, hop) for hop in (await api.stub.TraceNetwork(request)).hops]


async def test_both_ends_are_asked_and_their_facts_judged(api: Api) -> None:
    agents = Agents(api)
    hops = await traced(api)
    assert all(hop.ok for hop in hops), hops
    assert [hop.hop for hop in hops][-3:] == ["listener", "connect", "connect"]
    first, *way, last = agents.probes
    assert (first[0], first[1].name, first[1].vip) == ("n1", "web", "")
    asked = {(name, p.address, p.network_id, p.listeners) for name, p in way}
    assert asked == {("n1", THERE, "net", False), ("n2", "10.128.0.1", "net", True)}
    assert (last[0], last[1].connect_to, last[1].port) == ("n1", (THERE, VIP), 80)


async def test_hops_after_a_broken_one_are_not_probed(api: Api) -> None:
    agents = Agents(api)
    broken = Difference(where="host", text="fdb is missing")
    api.desk.agents[NodeId("n2")] = agents.telling("n2", replace(WHOLE, differences=(broken,)))
    last = (await traced(api))[-1]
    assert (last.hop, last.place, last.ok) == ("host", "n2", False)
    assert not [p for _, p in agents.probes if p.connect_to]


async def test_an_agent_at_the_other_end_that_is_away_or_dies_is_named(api: Api) -> None:
    Agents(api)
    api.desk.agents[NodeId("n2")] = lambda _: [None]
    assert (await traced(api))[-1].found == "the agent's connection was lost"
    del api.desk.agents[NodeId("n2")]
    last = (await traced(api))[-1]
    assert (last.hop, last.place, last.ok) == ("backend", "n2", False)


async def test_without_the_first_agent_nothing_can_be_told(api: Api) -> None:
    Agents(api)
    del api.desk.agents[NodeId("n1")]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await traced(api)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_who_is_unknown_is_not_found(api: Api) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await traced(api)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_caller_who_goes_away_leaves_no_tunnel_open(api: Api) -> None:
    Agents(api)
    asked = asyncio.Event()
    tunnels = api.desk.tunnels = Tunnels(Numbered(), lambda *_: asked.set())
    call = asyncio.create_task(traced(api))
    await asked.wait()
    assert len(tunnels) == 1
    call.cancel()
    async with asyncio.timeout(DIAL_TIMEOUT_S / 2):
        while len(tunnels):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_agent_that_tells_nothing_of_what_was_asked_breaks_nothing(api: Api) -> None:
    agents = Agents(api)
    api.desk.agents[NodeId("n1")] = agents.telling("n1", Facts())
    last = (await traced(api))[-1]
    assert (last.hop, last.ok) == ("vip", False)
