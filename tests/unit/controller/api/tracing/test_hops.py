"""Faults put into the facts of a whole path: each is named at its hop, with a remedy."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.tracing.ends import End, Target, Vip
from controller.api.tracing.hops import Case, carried, connected, resolved
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.states import TaskState
from pyswarm_core.traces import CLOSED, Attempt, Difference, Facts, Hop
from tests.unit.controller.leader.endpoints.build import WEB, world

VIP, HERE, THERE = "10.128.255.254", "10.128.0.2", "10.128.0.66"
NET, BACK = NetworkId("net"), NetworkId("back")
ECHO, FULL = Attempt(bytes=84, elapsed=5), Attempt(bytes=1450)
LOST = Attempt(bytes=84, error="no answer within 2 s")
HEARS = replace(LOST, heard=True)


def end(name: str, host: str, address: str) -> End:
    facts = Facts(
        revision=7,
        name=Attempt(to="db", addresses=(VIP,), elapsed=3),
        backends=(THERE,),
        task_route=f"via 10.128.0.1 dev eth0 src {address}",
        host_route="via 240.0.0.2 dev f-x1",
        echo=ECHO,
        full_echo=FULL,
        listeners=("0.0.0.0:80",),
        connections=(Attempt(to=THERE, elapsed=9), Attempt(to=VIP)),
    )
    return End(
        name=name, host=host, underlay=f"192.0.2.{host[-1]}", task_id=TaskId(name),
        addresses={NET: address}, network_id=NET, network="net", address=address, facts=facts,
    )  # fmt: skip


NEAR, FAR = end("web.1", "host1", HERE), end("db.1", "host2", THERE)
SERVICE = world().services[WEB]
WHOLE = Case(
    near=NEAR,
    far=FAR,
    target=Target(text="db", name="db", service=SERVICE),
    vip=Vip(VIP, (THERE,)),
    revision=9,
    port=80,
)


def near(**facts: Any) -> Case:
    return replace(WHOLE, near=replace(NEAR, facts=replace(NEAR.facts, **facts)))


def far(**facts: Any) -> Case:
    return replace(WHOLE, far=replace(FAR, facts=replace(FAR.facts, **facts)))


def both(here: Attempt, there: Attempt, **facts: Any) -> Case:
    return replace(near(echo=here, **facts), far=far(echo=there).far)


def differing(where: str) -> dict[str, Any]:
    return {"differences": (Difference(where=where, text=f"{where} differs"),)}


def walked(case: Case) -> list[Hop]:
    """The hops up to the first broken one."""
    hops: list[Hop] = []
    for stage in (resolved, carried, connected):
        for hop in stage(case):
            hops.append(hop)
            if not hop.ok:
                return hops
    return hops


def test_a_whole_path_is_told_hop_by_hop() -> None:
    hops = walked(WHOLE)
    assert [hop.hop for hop in hops] == [
        *("name", "vip", "backend", "task", "host", "host", "task", "rules", "rules"),
        *("tunnel", "tunnel", "mtu", "mtu", "listener", "connect", "connect"),
    ]
    assert all(hop.ok and not hop.remedy for hop in hops)
    assert (hops[0].elapsed, hops[-2].elapsed) == (3, 9)
    assert hops[3].found == f"{THERE} via 10.128.0.1 dev eth0 src {HERE}"


def test_of_one_host_the_bridge_is_told_instead_of_a_tunnel() -> None:
    words = [hop.hop for hop in walked(replace(WHOLE, far=replace(FAR, host="host1")))]
    assert words.count("host") == words.count("rules") == 1
    assert "bridge" in words
    assert "tunnel" not in words


def test_a_task_that_reaches_itself_has_no_path_between() -> None:
    assert [hop.hop for hop in walked(replace(WHOLE, far=NEAR))][3:] == [
        *("listener", "connect", "connect")
    ]


NOBODYS = Target(text="nope", name="nope")
BROKEN: dict[str, tuple[Case, str, str, str]] = {
    "no network in common": (
        replace(WHOLE, unjoined="back"), "name", "web.1", "--network-add back web",
    ),
    "changed rules": (
        near(name=Attempt(error="Connection refused"), **differing("task_rules")),
        "name", "web.1", "task_rules differs",
    ),
    "a resolver that is silent": (
        near(name=Attempt(error="no answer")), "name", "web.1", "agent of host1",
    ),
    "a name of nobody's that other servers fail at": (
        replace(
            near(name=Attempt(to="nope", error="SERVFAIL")), target=NOBODYS, vip=None, far=None
        ),
        "name", "web.1", "no service, alias or task of the fleet is called nope",
    ),
    "no such name": (near(name=Attempt(to="db")), "name", "web.1", "there is no address for db"),
    "an old answer": (
        near(name=Attempt(addresses=("10.128.255.1",))), "name", "web.1", f"should be {VIP}",
    ),
    "changed rules of a virtual address": (
        near(**differing("task_rules"), backends=()), "vip", "web.1", "repairs this",
    ),
    "a host that is behind": (
        replace(WHOLE, vip=Vip(VIP, (THERE, "10.128.0.99"))),
        "vip", "web.1", "host1 follows revision 7, the fleet is at 9",
    ),
    "nobody serves": (
        replace(near(backends=()), vip=Vip(VIP, ())), "vip", "web.1", "`pyswarm why db`",
    ),
    "nobody has the address": (replace(WHOLE, far=None), "backend", "web.1", "no running task"),
    "a task that has ended": (
        replace(WHOLE, far=replace(FAR, state=TaskState.FAILED)),
        "backend", "db.1", "`pyswarm why db.1`",
    ),
    "a task of another network": (
        replace(WHOLE, far=replace(FAR, network_id=BACK, network="back")),
        "backend", "db.1", "--network-add back web",
    ),
    "an agent that is away": (
        replace(WHOLE, far=replace(FAR, error="no answer")),
        "backend", "host2", "`pyswarm node ls`",
    ),
    "no route in the task": (near(task_route=""), "task", "web.1", "unreachable"),
    "another source": (far(task_route="dev eth0 src 10.9.9.9"), "task", "db.1", f"src {THERE}"),
    "a host's network": (far(**differing("host")), "host", "host2", "repairs this"),
    "a foreign route": (near(**differing("route")), "host", "host1", "--subnet"),
    "a host that was not told": (
        near(**differing("peer")), "host", "host1", "host1 follows revision 7",
    ),
    "a host's rules": (far(**differing("rules")), "rules", "host2", "repairs this"),
    "Docker's rules": (
        both(LOST, LOST, dropping=("table ip filter chain FORWARD",)),
        "rules", "host1", "DOCKER-USER",
    ),
    "a tunnel there": (both(LOST, LOST), "tunnel", "web.1 to db.1", "192.0.2.1 to 192.0.2.2"),
    "a tunnel back": (both(LOST, HEARS), "tunnel", "db.1 to web.1", "192.0.2.2 to 192.0.2.1"),
    "the underlay's MTU": (
        far(full_echo=Attempt(bytes=1450, error="lost")),
        "mtu", "db.1 to web.1", "must carry 1500 bytes",
    ),
    "nothing listens": (far(listeners=("0.0.0.0:22",)), "listener", "db.1", "there is 0.0.0.0:22"),
    "it listens to itself": (
        far(listeners=("127.0.0.1:80", "[::1]:80")), "listener", "db.1", "bind 0.0.0.0",
    ),
    "it listens to the other IP version": (
        replace(
            WHOLE, far=replace(FAR, address="fd00::42"), near=replace(NEAR, task_id=FAR.task_id)
        ),
        "listener", "db.1", "not of fd00::42",
    ),
    "it accepts nobody": (
        near(connections=(Attempt(to=THERE, error="refused"),)),
        "connect", "web.1", f"{THERE}:80: refused",
    ),
    "another backend accepts nobody": (
        near(connections=(Attempt(to=VIP, error="refused"),)),
        "connect", "web.1", "another backend",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("case", "hop", "place", "says"), BROKEN.values(), ids=BROKEN)
def test_a_fault_is_named_at_its_hop(case: Case, hop: str, place: str, says: str) -> None:
    last = walked(case)[-1]
    assert (last.hop, last.place, last.ok) == (hop, place, False)
    assert says in f"{last.found} {last.remedy}"
    assert last.remedy


def test_a_foreign_policy_that_lets_the_pair_pass_is_no_fault() -> None:
    hops = walked(near(dropping=("table ip filter chain FORWARD",)))
    assert all(hop.ok for hop in hops)
    assert "lets the pair pass" in next(hop.found for hop in hops if hop.hop == "rules")


def test_an_address_outside_the_fleet_is_only_connected_to() -> None:
    facts = replace(NEAR.facts, name=None)
    outside = replace(
        WHOLE, near=replace(NEAR, facts=facts), far=None, vip=None, outside=True,
        target=Target(text="192.0.2.9", address="192.0.2.9"),
    )  # fmt: skip
    assert [hop.hop for hop in walked(outside)] == ["backend", "connect", "connect"]


def test_a_closed_port_of_the_control_plane_names_what_opens_it() -> None:
    refused = Attempt(to="192.0.2.9", error=f"Connection refused: {CLOSED}")
    facts = replace(NEAR.facts, name=None, connections=(refused,))
    outside = replace(
        WHOLE, near=replace(NEAR, facts=facts), far=None, vip=None, outside=True, port=2377,
        target=Target(text="192.0.2.9", address="192.0.2.9"),
    )  # fmt: skip
    hop = walked(outside)[-1]
    assert hop.found == f"192.0.2.9:2377: Connection refused: {CLOSED}"
    assert hop.remedy.startswith("`service update --allow-fleet-api` opens the controllers' API")


def test_of_udp_only_a_refusal_is_told() -> None:
    hop = walked(replace(WHOLE, udp=True))[-1]
    assert (hop.ok, hop.found) == (True, f"{VIP}:80 refuses no datagram")
