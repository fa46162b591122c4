"""A way as it should be, and with one thing wrong at a time."""

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from agent.network.base import Attachment, OverlayWanted, Peer, Underlay
from agent.network.names import Names, vtep_mac
from agent.network.overlay.plan import wanted
from agent.network.overlay.plug import plugs
from agent.network.state import Address, Fdb, KernelState, Link, Route
from agent.network.trace.way import Inside, Seen, checks
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import EncryptionKey

NAMES = Names("abc")
APP = NetworkId("app")
BRIDGE, VXLAN = NAMES.bridge(APP), NAMES.vxlan(APP)
OVERLAY = OverlayWanted(
    network_id=APP, name="app", subnet="10.128.0.0/16", vni=4097, node_number=1,
    local_blocks=("10.128.0.0/26",),
    peers=(Peer(node_number=2, address="192.168.0.2", blocks=("10.128.0.64/26",)),),
)  # fmt: skip
REMOTE, LOCAL = "10.128.0.66", "10.128.0.3"
PLACE = Attachment(network_id=APP, address="10.128.0.2")
(PLUG,) = plugs(TaskId("t1"), [PLACE], {APP: OVERLAY}, NAMES, 1500)
PORT = PLUG.port.name
WANT = wanted([OVERLAY], NAMES, Underlay(address="192.168.0.1"), 1500, {PORT: BRIDGE})


def whole(address: str = REMOTE) -> Seen:
    """An undisturbed way."""
    remote = address == REMOTE
    return Seen(
        address=address,
        overlay=OVERLAY,
        plug=PLUG,
        want=WANT,
        found=WANT,
        links={**WANT.links, PORT: PLUG.port},
        inside=Inside(
            links={"eth0": PLUG.inside},
            addresses=frozenset({Address("eth0", PLUG.cidr)}),
            neighbours=frozenset({PLUG.gateway}),
            route=Route(dst=address, device="eth0", via="10.128.0.1" if remote else ""),
        ),
        route=Route(dst=address, device=VXLAN, via="240.0.0.2")
        if remote
        else Route(dst=address, device=BRIDGE),
        paired=True,
        disturbed=False,
    )


def wrong(seen: Seen) -> list[tuple[str, str]]:
    """Hop and thing of each check that is not as wanted."""
    return [(check.hop, check.what) for check in checks(seen, NAMES) if not check.ok]


@pytest.mark.parametrize("address", [REMOTE, LOCAL])
def test_an_undisturbed_way_is_as_wanted(address: str) -> None:
    seen = whole(address)
    assert wrong(seen) == []
    told = [check.hop for check in checks(seen, NAMES)]
    assert set(told) == {"task", "host", "mtu", "rules"}
    assert any(VXLAN in check.what for check in checks(seen, NAMES)) is (address == REMOTE)


def found(seen: Seen, **changes: object) -> Seen:
    return replace(seen, found=msgspec.structs.replace(seen.found, **changes))


def inside(seen: Seen, **changes: object) -> Seen:
    return replace(seen, inside=msgspec.structs.replace(seen.inside, **changes))


def without(state: KernelState, device: str) -> dict[str, Link]:
    return {name: link for name, link in state.links.items() if name != device}


MAC = vtep_mac(2)
HARM: dict[str, tuple[Callable[[Seen], Seen], str, str]] = {
    "no interface": (lambda s: inside(s, links={}), "task", "eth0"),
    "no address": (lambda s: inside(s, addresses=frozenset()), "task", "eth0"),
    "no route": (lambda s: inside(s, route=None), "task", f"the task's route to {REMOTE}"),
    "no gateway": (
        lambda s: inside(s, neighbours=frozenset()), "task", "the task's neighbour 10.128.0.1",
    ),
    "unplugged": (lambda s: found(s, ports={PORT: ""}), "task", PORT),
    "no tunnel": (lambda s: found(s, links=without(s.found, VXLAN)), "host", VXLAN),
    "no bridge": (lambda s: found(s, links=without(s.found, BRIDGE)), "host", BRIDGE),
    "another way": (
        lambda s: replace(s, route=Route(dst=REMOTE, device="tun0")),
        "host", f"the host's route to {REMOTE}",
    ),
    "no neighbour": (
        lambda s: found(s, neighbours=frozenset()), "host", f"neighbour 240.0.0.2 on {VXLAN}",
    ),
    "no FDB entry": (lambda s: found(s, fdb=frozenset()), "host", f"FDB entry {MAC} on {VXLAN}"),
    "another host": (
        lambda s: found(s, fdb=frozenset({Fdb(VXLAN, MAC, "192.168.0.9")})),
        "host", f"FDB entry {MAC} on {VXLAN}",
    ),
    "no forwarding": (
        lambda s: found(s, settings=frozenset(x for x in s.found.settings if x.device)),
        "host", "ipv4/ip_forward",
    ),
    "no encryption": (
        lambda s: replace(
            s,
            overlay=replace(OVERLAY, encryption_keys=(EncryptionKey(number=1, secret=b"k"),)),
            unsealed=("policy to 192.168.0.2",),
        ),
        "host", "encryption",
    ),
    "small packets": (
        lambda s: found(s, links={**s.found.links, VXLAN: replace(s.found.links[VXLAN], mtu=999)}),
        "mtu", f"MTU of {VXLAN}",
    ),
    "no pair": (lambda s: replace(s, paired=False), "rules", "set same_network of app"),
    "other rules": (lambda s: replace(s, disturbed=True), "rules", f"table inet {NAMES.table}"),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "hop", "what"), HARM.values(), ids=HARM)
def test_one_thing_that_is_wrong_is_one_check(
    harm: Callable[[Seen], Seen], hop: str, what: str
) -> None:
    bad = wrong(harm(whole()))
    # A device that is not there has no MTU to be wrong, and its addresses are looked at by name.
    assert bad == [(hop, what)]


def test_what_is_inside_a_task_is_not_said_to_heal() -> None:
    inner = [c for c in checks(whole(), NAMES) if c.what in ("eth0", "MTU of eth0")]
    outer = [c for c in checks(whole(), NAMES) if VXLAN in c.what]
    assert [check.heals for check in inner] == [False, False]
    assert {check.heals for check in outer} == {True}


def test_a_host_that_was_not_told_of_the_block_says_so() -> None:
    lonely = replace(OVERLAY, peers=())
    seen = replace(whole(), overlay=lonely, route=None)
    (bad,) = [check for check in checks(seen, NAMES) if not check.ok]
    assert (bad.wanted, bad.found) == ("a host that has its block", "unreachable")
