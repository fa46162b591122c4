"""How full networks are is told before tasks have to wait."""

from unittest.mock import Mock

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from controller.brain.allocator.usage import Usage, usage
from controller.leader.exchanges import EXEC
from controller.leader.tunnels import Tunnels
from controller.metrics import LeaderState, Metrics, SessionState
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.objects import Endpoint, Network, UpdateStatus, VirtualIp
from pyswarm_core.specs import Ipam, IpamConfig
from pyswarm_core.state import State
from pyswarm_core.states import UpdateState
from pyswarm_core.streams.requests import ExecRequest
from pyswarm_core.views import Event
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import Numbered, dirty, nodes, service

SPEC = build.template(networks=["net"])
NET = NetworkId("net")


class Leading:
    """What a loop shows, around a state."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.queue_depths: dict[str, int] = {}
        self.quarantine = ()
        self.sessions: list[SessionState] = []
        self.tasks_withheld = 0
        self.tunnels = Tunnels(Numbered(), lambda *_: None)


def full_world(subnet: str) -> BrainWorld:
    """Three nodes that were asked to run 12 tasks on one network."""
    state = build.state(
        nodes=nodes(3),
        services=[service("web", replicas=12, spec=SPEC)],
        networks=[build.network("net", subnet)],
    )
    world = BrainWorld(state)
    world.settle(dirty("web"))
    return world


def scraped(registry: CollectorRegistry, name: str, use: str) -> float | None:
    labels = {"network": "net", "use": use}
    return registry.get_sample_value(f"pyswarm_controller_network_{name}", labels)


def test_a_network_without_free_blocks_shows_before_tasks_wait_for_it() -> None:
    metrics = Metrics()
    leading: LeaderState = Leading(full_world("10.128.0.0/28").state)
    metrics.watch(lambda: leading)
    told = {use: scraped(metrics.registry, "blocks", use) for use in ("nodes", "services", "free")}
    assert told == {"nodes": 2, "services": 0, "free": 0}
    assert scraped(metrics.registry, "addresses", "tasks") == 10


async def test_streams_to_agents_are_counted_by_operation_while_they_are_open() -> None:
    metrics, leading = Metrics(), Leading(build.state())
    metrics.watch(lambda: leading)

    def count(operation: str) -> float | None:
        name = "pyswarm_controller_streams"
        return metrics.registry.get_sample_value(name, {"operation": operation})

    def dialled(node_id: NodeId, request: dispatcher_pb2.OpenTunnel) -> None:
        leading.tunnels.accept(request.tunnel_id, node_id, Mock())

    def refused(*_: object) -> None:
        raise Unavailable("no session")

    leading.tunnels = Tunnels(Numbered(), dialled)
    assert [count(one) for one in ("exec", "stats", "image_ports")] == [0, 0, 0]
    async with leading.tunnels.open(NodeId("n1"), EXEC, ExecRequest(ref="t", args=("x",))):
        assert [count(one) for one in ("exec", "stats")] == [1, 0]
    leading.tunnels._ask = refused
    with pytest.raises(Unavailable):
        async with leading.tunnels.open(NodeId("n1"), EXEC, ExecRequest(ref="t", args=("x",))):
            pass
    assert count("exec") == 0


def test_virtual_addresses_and_the_gateway_close_blocks() -> None:
    config = IpamConfig(subnet="10.128.0.0/24", gateway="10.128.0.200")
    made = build.network("net", "10.128.0.0/24")
    made = replace(made, spec=replace(made.spec, ipam=Ipam(config=(config,))))
    state = full_world("10.128.0.0/24").state
    vip = Endpoint(virtual_ips=(VirtualIp(network_id=NET, addr="10.128.0.254"),))
    held: Network = replace(made, blocks=state.networks[NET].blocks)
    state.apply(Writes(objects=(held, replace(service("db"), endpoint=vip))))
    load, virtual = state.network_load[NET].values(), state.virtual_ips[NET]
    assert usage(held, load, virtual) == Usage(3, 2, 11, 12, 1)


def test_a_network_that_cannot_be_worked_out_does_not_end_the_scrape() -> None:
    state = full_world("10.128.0.0/28").state
    state.apply(Writes(objects=(build.network("torn", subnet="not a subnet"),)))
    metrics = Metrics()
    leading: LeaderState = Leading(state)
    metrics.watch(lambda: leading)
    assert scraped(metrics.registry, "blocks", "nodes") == 2


def test_crash_loops_are_counted() -> None:
    metrics = Metrics()
    loop = Event.of(EventKind.CRASH_LOOP, "web", "web", "web.1 failed 3 times in a row", 2)
    metrics.count([loop, Event.of(EventKind.TASK_REPLACED, "web", "web", "failed", 5)])
    name = "pyswarm_controller_crash_loops_total"
    assert metrics.registry.get_sample_value(name) == 2


def test_services_are_counted_by_the_state_of_their_last_update() -> None:
    paused = UpdateStatus(state=UpdateState.ROLLBACK_PAUSED)
    state = build.state(
        services=[
            service("new"),
            replace(service("one"), update_status=UpdateStatus()),
            replace(service("two"), update_status=paused),
            replace(service("three"), update_status=paused),
        ]
    )
    metrics = Metrics()
    leading: LeaderState = Leading(state)
    metrics.watch(lambda: leading)
    found = {
        one.value: metrics.registry.get_sample_value(
            "pyswarm_controller_updates", {"state": one.value}
        )
        for one in UpdateState
    }
    expected = {one.value: 0.0 for one in UpdateState}
    assert found == {**expected, "updating": 1, "rollback_paused": 2}
