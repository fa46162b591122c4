"""The interfaces of a task: addresses, gateways, default routes, of one IP version or both."""

import msgspec
import pytest

from agent.network import message
from agent.network.base import Attachment, DesiredOverlay
from agent.network.names import Names, gateway_mac
from agent.network.overlay.plug import Ipv6Interface, Plug, inside_messages, plugs, stale_neighbours
from agent.network.state import Neighbour, Route, Rule
from pyswarm_core.ids import NetworkId, TaskId

NAMES = Names("abc")
APP, PLAIN, MESH = NetworkId("app"), NetworkId("plain"), NetworkId("mesh")


def network(network_id: NetworkId, prefix: str, six: str = "", **changes: object) -> DesiredOverlay:
    made = DesiredOverlay(
        network_id=network_id, name=network_id, subnet=f"{prefix}.0.0/16", vni=4096,
        local_blocks=(f"{prefix}.0.0/26",), subnet6=six,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


DUAL = network(APP, "10.1", "fd01::/64")
FOUR = network(PLAIN, "10.2")


def wiring(*overlays: DesiredOverlay) -> tuple[Plug, ...]:
    places = [
        Attachment(
            network_id=overlay.network_id, ifname=f"eth{n}",
            address=overlay.subnet.replace("0.0/16", "0.2"),
        )
        for n, overlay in enumerate(overlays)
    ]  # fmt: skip
    known = {overlay.network_id: overlay for overlay in overlays}
    return plugs(TaskId("task"), places, known, NAMES, 1500)


def test_a_network_of_one_version_is_wired_as_if_there_were_no_other() -> None:
    (plug,) = wiring(FOUR)
    assert plug.six is None
    assert plug.routes == (Route(dst="0.0.0.0/0", device="eth0", via="10.2.0.1"),)


def test_ipv6_follows_from_ipv4() -> None:
    (plug,) = wiring(DUAL)
    assert plug.six == Ipv6Interface(
        cidr="fd01::2/122", gateway=Neighbour("eth0", "fd01::1", gateway_mac(APP))
    )
    assert plug.routes == (
        Route(dst="0.0.0.0/0", device="eth0", via="10.1.0.1"),
        Route(dst="::/0", device="eth0", via="fd01::1"),
    )


def test_each_version_leaves_by_the_first_network_that_has_it_and_a_way_out() -> None:
    first, second = wiring(FOUR, DUAL)
    assert {route.dst for route in first.routes} == {"0.0.0.0/0"}
    assert {route.dst for route in second.routes} == {"10.1.0.0/16", "::/0"}
    closed, opened = wiring(network(PLAIN, "10.2", "fd02::/64", internal=True), DUAL)
    assert {route.dst for route in closed.routes} == {"10.2.0.0/16", "fd02::/64"}
    assert {route.dst for route in opened.routes} == {"0.0.0.0/0", "::/0"}


def test_answers_of_each_version_leave_by_the_mesh() -> None:
    _, mesh = wiring(DUAL, network(MESH, "10.9", "fd09::/64", ingress=True))
    assert mesh.rules == (
        Rule(priority=1000, source="10.9.0.2", table=97),
        Rule(priority=1000, source="fd09::2", table=97, six=True),
    )
    assert {route.dst for route in mesh.routes if route.table == 97} == {
        "10.9.0.0/26", "0.0.0.0/0", "fd09::/122", "::/0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overlays", "kept_off"), [((FOUR,), []), ((DUAL,), []), ((FOUR, DUAL), [64])]
)
def test_beside_a_dual_stack_network_one_without_ipv6_is_kept_off_it(
    overlays: tuple[DesiredOverlay, ...], kept_off: list[int]
) -> None:
    made = wiring(*overlays)
    said = inside_messages(made, 3, dual=any(plug.six for plug in made))
    assert [n for n in (64, 65) if message.without_ipv6(n) in said] == kept_off


def test_a_mac_of_its_own_is_also_that_of_the_host_s_entries() -> None:
    place = Attachment(network_id=APP, address="10.1.0.2", mac="02:42:ac:11:00:09")
    (plug,) = plugs(TaskId("task"), [place], {APP: DUAL}, NAMES, 1500)
    assert plug.inside.mac == "02:42:ac:11:00:09"
    assert {entry.mac for entry in plug.neighbours} == {"02:42:ac:11:00:09"}
    bridge = NAMES.bridge(APP)
    assert stale_neighbours([plug]) == [
        (bridge, Neighbour(bridge, "10.1.0.2", "02:42:ac:11:00:09")),
        (bridge, Neighbour(bridge, "fd01::2", "02:42:ac:11:00:09")),
    ]
    assert stale_neighbours(wiring(DUAL, FOUR)) == []
