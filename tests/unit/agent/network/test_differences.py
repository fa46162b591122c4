"""The differences between plan and kernel that concern a path."""

import pytest

from agent.network.base import DesiredOverlay, Drift, Peer, Underlay
from agent.network.names import Names
from agent.network.overlay.plan import desired_state, difference, drifts
from agent.network.state import KernelState
from agent.network.trace.differences import ChosenRoute, of_plan, of_route
from pyswarm_core.ids import NetworkId, TaskId

NAMES = Names("abc")
APP, OTHER, TASK = NetworkId("app"), NetworkId("other"), TaskId("t1")
BRIDGE, VXLAN, PORT = NAMES.bridge(APP), NAMES.vxlan(APP), NAMES.veth(TASK, APP)


def told(*found: Drift) -> list[tuple[str, str]]:
    return [(one.where, one.text) for one in of_plan(found, NAMES, TASK, APP)]


def test_everything_of_the_network_that_the_kernel_lacks_concerns_it_and_nothing_of_another() -> (
    None
):
    overlays = [
        DesiredOverlay(
            network_id=network, name=network, vni=vni, subnet=f"10.{vni}.0.0/16", node_number=1,
            local_blocks=(f"10.{vni}.0.0/26",),
            peers=(Peer(node_number=2, address="192.0.2.2", blocks=(f"10.{vni}.0.64/26",)),),
        )
        for network, vni in ((APP, 10), (OTHER, 20))
    ]  # fmt: skip
    plans = [
        desired_state(some, NAMES, Underlay(address="192.0.2.1"), 1500, {})
        for some in (overlays, overlays[1:])
    ]
    missing = [drifts(difference(plans[0], found)) for found in (plans[1], KernelState())]
    concerning = told(*missing[0])
    assert len(concerning) == len(missing[0]) > 10
    assert {where for where, _ in concerning} == {"host"}
    of_other = NAMES.vxlan(OTHER), NAMES.bridge(OTHER)
    texts = [text for _, text in told(*missing[1])]
    # Plus the host's forwarding, and the unreachable rest of the other network's subnet.
    assert len(texts) == len(concerning) + 2
    assert not [text for text in texts if any(device in text for device in of_other)]


@pytest.mark.parametrize(
    ("drift", "where"),
    [
        (Drift(kind="rules", detail=f"task {TASK}"), "task_rules"),
        (Drift(kind="rules", detail="task t2"), None),
        (Drift(kind="rules", detail=NAMES.table), "rules"),
        (Drift(kind="rules", detail=f"netdev {NAMES.table}"), "rules"),
        (Drift(kind="port", detail=PORT), "host"),
        (Drift(kind="port", detail=NAMES.veth("t2", APP)), None),
        (Drift(kind="xfrm", detail="state src 192.0.2.1 dst 192.0.2.2 spi 0x1"), "host"),
        (Drift(kind="setting", detail="ipv4/ip_forward = 1"), "host"),
    ],
)
def test_a_difference_is_placed_where_it_matters(drift: Drift, where: str | None) -> None:
    assert [place for place, _ in told(drift)] == ([where] if where else [])


@pytest.mark.parametrize(
    ("route", "where"),
    [
        (ChosenRoute(device=VXLAN, via="240.0.0.2"), None),
        (ChosenRoute(device=BRIDGE), None),
        (ChosenRoute(device="tun0", source="10.8.0.2"), "route"),
        (ChosenRoute(), "peer"),
    ],
)
def test_a_route_must_use_the_networks_devices(route: ChosenRoute, where: str | None) -> None:
    found = list(of_route(route, NAMES, APP, "10.10.0.66"))
    assert [one.where for one in found] == ([where] if where else [])
    assert all(str(route) in one.text and "10.10.0.66" in one.text for one in found)
