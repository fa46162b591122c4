"""Faults injected into the facts of a whole way: each is named at its hop, with a remedy."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.tracing.hops import HOPS, Case, Side, judge
from pyswarm_core.traces import (
    Check,
    ConnectionFact,
    EchoFact,
    Facts,
    Hop,
    NameFact,
    RulesFact,
)

VIP, HERE, THERE = "10.128.255.254", "10.128.0.2", "10.128.0.66"
ECHO, FULL = EchoFact(bytes=84, answered=True, elapsed=5), EchoFact(bytes=1450, answered=True)
SILENT = EchoFact(bytes=84)
HEARS = EchoFact(bytes=84, heard=True)
RULES = RulesFact(present=True, resolver=True, leads=True, backends=(THERE,), told=(THERE,))


def check(hop: str, what: str, wanted: str = "right", found: str = "right") -> Check:
    return Check(hop=hop, what=what, wanted=wanted, found=found)


CHECKS = (
    check("task", "the task's route to it", "dev eth0", "dev eth0"),
    check("host", "the host's route to it", "dev x", "dev x"),
    check("mtu", "MTU of x", "1450", "1450"),
    check("rules", "table inet pyswarm_f"),
)
FOUND = Facts(
    revision=7,
    name=NameFact(addresses=(VIP,), elapsed=3),
    rules=RULES,
    checks=CHECKS,
    echo=ECHO,
    full_echo=FULL,
    listeners=("0.0.0.0:80",),
    connections=(ConnectionFact(address=THERE, elapsed=9), ConnectionFact(address=VIP)),
)
WHOLE = Case(
    near=Side(task="web.1", host="host1", underlay="192.0.2.1", address=HERE, facts=FOUND),
    far=Side(task="db.1", host="host2", underlay="192.0.2.2", address=THERE, facts=FOUND),
    service="web",
    target="db",
    name="db",
    vip=VIP,
    backends=(THERE,),
    revision=9,
    port=80,
)


def near(**changes: Any) -> Case:
    return replace(WHOLE, near=replace(WHOLE.near, facts=replace(FOUND, **changes)))


def far(**changes: Any) -> Case:
    assert WHOLE.far is not None
    return replace(WHOLE, far=replace(WHOLE.far, facts=replace(FOUND, **changes)))


def both(here: EchoFact, there: EchoFact, **changes: Any) -> Case:
    case = near(echo=here, **changes)
    return replace(case, far=far(echo=there).far)


def harmed(hop: str) -> tuple[Check, ...]:
    """The checks with that hop's thing missing."""
    return tuple(replace(c, found="") if c.hop == hop else c for c in CHECKS)


def walked(case: Case) -> list[Hop]:
    hops: list[Hop] = []
    for stage in HOPS:
        hops += judge(stage, case)
        if hops and not hops[-1].ok:
            break
    return hops


def test_a_whole_way_is_told_hop_by_hop() -> None:
    hops = walked(WHOLE)
    assert [hop.hop for hop in hops] == [
        *("name", "vip", "backend", "task", "host", "host", "task", "rules", "rules"),
        *("tunnel", "tunnel", "mtu", "mtu", "listener", "connect", "connect"),
    ]
    assert all(hop.ok and not hop.remedy for hop in hops)
    assert (hops[0].elapsed, hops[-2].elapsed) == (3, 9)


def test_of_one_host_the_bridge_is_told_instead_of_a_tunnel() -> None:
    assert WHOLE.far is not None
    hops = walked(replace(WHOLE, far=replace(WHOLE.far, host="host1")))
    words = [hop.hop for hop in hops]
    assert words.count("host") == words.count("rules") == 1
    assert "bridge" in words
    assert "tunnel" not in words


def test_a_task_that_reaches_itself_has_no_way_between() -> None:
    hops = walked(replace(WHOLE, far=replace(WHOLE.near)))
    assert [hop.hop for hop in hops][3:] == ["listener", "connect", "connect"]


BROKEN: dict[str, tuple[Case, str, str, str]] = {
    "no network in common": (
        replace(WHOLE, strangers="web.1 and db share no network", join="back"),
        "name", "web.1", "--network-add back web",
    ),
    "no resolver": (
        near(name=NameFact(error="Connection refused"), rules=RulesFact()),
        "name", "web.1", "do not lead to the resolver",
    ),
    "a resolver that is silent": (
        near(name=NameFact(error="no answer within 2 s")), "name", "web.1", "agent of host1",
    ),
    "a name of nobody's that other servers fail at": (
        replace(
            near(name=NameFact(error="the resolver was told SERVFAIL")),
            name="nope", target="nope", vip="", backends=(), far=None,
        ),
        "name", "web.1", "no service, alias or task of the fleet is called nope",
    ),
    "no such name": (near(name=NameFact()), "name", "web.1", "there is no address for db"),
    "an old answer": (
        near(name=NameFact(addresses=("10.128.255.1",))), "name", "web.1", f"should be {VIP}",
    ),
    "no rules": (near(rules=RulesFact()), "vip", "web.1", "are gone"),
    "an unknown virtual address": (
        near(rules=replace(RULES, leads=False)), "vip", "web.1", f"do not know {VIP}",
    ),
    "rules that lead elsewhere": (
        near(rules=replace(RULES, backends=("10.128.0.9",))), "vip", "web.1", "mends this",
    ),
    "a host that lags": (
        replace(WHOLE, backends=(THERE, "10.128.0.99")),
        "vip", "web.1", "host1 follows revision 7, the fleet is at 9",
    ),
    "nobody serves": (
        replace(near(rules=replace(RULES, backends=(), told=())), backends=()),
        "vip", "web.1", "`pyswarm why db`",
    ),
    "nobody has the address": (replace(WHOLE, far=None), "backend", "web.1", "no running task"),
    "a task that has ended": (
        replace(WHOLE, trouble="the task is failed"), "backend", "db.1", "`pyswarm why db.1`",
    ),
    "the near task's route": (near(checks=harmed("task")), "task", "web.1", "found nothing"),
    "the near host's route": (near(checks=harmed("host")), "host", "host1", "found nothing"),
    "the far host's route": (far(checks=harmed("host")), "host", "host2", "found nothing"),
    "the far task's route": (far(checks=harmed("task")), "task", "db.1", "found nothing"),
    "our rules": (far(checks=harmed("rules")), "rules", "host2", "table inet pyswarm_f"),
    "Docker's rules": (
        both(SILENT, SILENT, dropping=("table ip filter chain FORWARD",)),
        "rules", "host1", "DOCKER-USER",
    ),
    "a tunnel there": (both(SILENT, SILENT), "tunnel", "web.1 to db.1", "192.0.2.1 to 192.0.2.2"),
    "a tunnel back": (both(SILENT, HEARS), "tunnel", "db.1 to web.1", "192.0.2.2 to 192.0.2.1"),
    "a device's MTU": (near(checks=harmed("mtu")), "mtu", "web.1 to db.1", "on host1: MTU of x"),
    "the underlay's MTU": (
        far(full_echo=EchoFact(bytes=1450)), "mtu", "db.1 to web.1", "must carry 1500 bytes",
    ),
    "nothing listens": (far(listeners=("0.0.0.0:22",)), "listener", "db.1", "there is 0.0.0.0:22"),
    "it listens to itself": (
        far(listeners=("127.0.0.1:80", "[::1]:80")), "listener", "db.1", "bind 0.0.0.0",
    ),
    "it accepts nobody": (
        near(connections=(ConnectionFact(address=THERE, error="refused"),)),
        "connect", "web.1", f"{THERE}:80: refused",
    ),
    "another backend accepts nobody": (
        near(connections=(ConnectionFact(address=VIP, error="refused"),)),
        "connect", "web.1", "another backend",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("case", "hop", "place", "says"), BROKEN.values(), ids=BROKEN)
def test_a_fault_is_named_at_its_hop(case: Case, hop: str, place: str, says: str) -> None:
    hops = walked(case)
    assert all(before.ok for before in hops[:-1])
    last = hops[-1]
    assert (last.hop, last.place, last.ok) == (hop, place, False)
    assert says in f"{last.found} {last.remedy}"
    assert last.remedy


def test_the_remedy_says_whether_the_agent_mends_it() -> None:
    for heals, says in ((True, "mends this within 15 s"), (False, "end the task")):
        broken = replace(check("task", "eth0", "up", "down"), heals=heals)
        (*_, last) = walked(near(checks=(broken,)))
        assert says in last.remedy


def test_a_foreign_policy_that_lets_the_pair_pass_is_no_fault() -> None:
    hops = walked(near(dropping=("table ip filter chain FORWARD",)))
    assert all(hop.ok for hop in hops)
    assert "lets the pair pass" in next(hop.found for hop in hops if hop.hop == "rules")


def test_an_agent_that_cannot_be_asked_is_named() -> None:
    (hop,) = judge(HOPS[1], replace(WHOLE, trouble="node host2 is not connected"))
    assert (hop.hop, hop.place, hop.ok) == ("backend", "host2", False)
    assert "host2" in hop.remedy


def test_an_address_outside_the_fleet_is_only_connected_to() -> None:
    case = replace(WHOLE, far=None, outside=True, name="", vip="", near=replace(WHOLE.near))
    outside = replace(case, near=replace(case.near, facts=replace(FOUND, name=None, rules=None)))
    assert [hop.hop for hop in walked(outside)] == ["backend", "connect", "connect"]
