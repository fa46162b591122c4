"""A host is cut from the underlay for a while and healed, under traffic."""

import time
from collections.abc import Mapping

import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.rules import backends
from tests.e2e.acceptance.test_names import lookup
from tests.e2e.acceptance.web import LATE_S, answers, ask, ask_from, asking

pytestmark = pytest.mark.slow

HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
CUT = "host3"
PORT = 18070
REPLICAS = 6
BRIDGE = "10.127.0.0/16"
"""What each host has for itself."""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """One of its hosts is cut off."""
    return own_fleet


def on_hosts(fleet: Fleet, service: str) -> dict[str, str]:
    """Host to the id of the task that runs there and should."""
    return {task["Node"]: task["ID"] for task in fleet.running(service)}


def addresses(fleet: Fleet, service: str) -> set[str]:
    """Those of the tasks that run and should."""
    return {fleet.address(task["ID"]) for task in fleet.running(service)}


def elsewhere(fleet: Fleet) -> bool:
    """Whether all replicas run on the two hosts that can be reached."""
    running = fleet.running("web")
    return len(running) == REPLICAS and CUT not in {task["Node"] for task in running}


def blocks(fleet: Fleet, host: str) -> tuple[set[str], dict[str, str]]:
    """A host's own blocks of addresses, and the host to which it leads each other block."""
    behind = {}
    for line in fleet.on(host, "bridge", "fdb", "show").out.splitlines():
        if " dst " in line:
            mac, _, device, _, vtep, *_ = line.split()
            behind[device, int(mac.rpartition(":")[2], 16)] = vtep
    own, others = set(), {}
    for line in fleet.on(host, "ip", "route", "show", "proto", "97").out.splitlines():
        words = line.split()
        if "onlink" in words:
            block, _, gateway, _, device, *_ = words
            others[block] = behind.get((device, int(gateway.rpartition(".")[2])), "nowhere")
        elif "link" in words and words[0] != BRIDGE:
            own.add(words[0])
    return own, others


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.nightly)])
def test_a_host_that_is_cut_off(fleet: Fleet, seconds: float) -> None:
    create = ("service", "create", "--network", "app")
    fleet(*create, "--name", "web", "--replicas", str(REPLICAS), "-p", f"{PORT}:80", IMAGE)
    fleet(*create, "--name", "peer", "--mode", "global", IMAGE)
    before = on_hosts(fleet, "peer")
    lost = [task["ID"] for task in fleet.running("web") if task["Node"] == CUT]
    assert lost
    left_alone = fleet.address(lost[0])
    answers(fleet, before[CUT], left_alone, 80, 1)

    fleet("playground", "cut", CUT)
    fleet.until(lambda: elsewhere(fleet), "the lost replicas run elsewhere")
    meanwhile(fleet, before, lost, left_alone, seconds)
    fleet("playground", "heal", CUT)
    after_all(fleet, lost)


def meanwhile(
    fleet: Fleet, peers: Mapping[str, str], lost: list[str], left_alone: str, seconds: float
) -> None:
    """While it is cut off, the others serve as if it had never been, and it goes on alone, after
    all know of it for so long.
    """
    vip = lookup(fleet, peers["host1"], "web").pop()
    reached = [("lan", HOSTS[host], PORT) for host in ("host1", "host2")]
    reached += [(peers[host], vip, 80) for host in ("host1", "host2")]
    fleet.until(
        lambda: lookup(fleet, peers["host1"], "tasks.web") == addresses(fleet, "web"),
        "the lost ones' addresses are forgotten",
    )
    with asking(fleet, *reached):
        assert lookup(fleet, peers[CUT], "web") == {vip}
        assert left_alone in lookup(fleet, peers[CUT], "tasks.web")
        assert ask_from(fleet, peers[CUT], left_alone, timeout_s=LATE_S) is not None
        for place, address, port in reached:
            names = {
                answer.addresses[0] for answer in answers(fleet, place, address, port, REPLICAS)
            }
            if port == 80:
                assert names == addresses(fleet, "web")
        time.sleep(seconds)
    assert elsewhere(fleet)
    assert set(lost) <= fleet.containers(), "containers of a host that is cut off go on"


def after_all(fleet: Fleet, lost: list[str]) -> None:
    """Healed, it is a host as the others: nothing runs twice, and all know the same."""

    def expected() -> set[str]:
        return {task["ID"] for name in ("web", "peer") for task in fleet.running(name)}

    fleet.until(
        lambda: len(on_hosts(fleet, "peer")) == 3 and fleet.containers() == expected(),
        "exactly what was asked for runs",
    )
    assert not set(lost) & expected()
    peers = on_hosts(fleet, "peer")
    for host, peer in peers.items():
        fleet.until(
            lambda p=peer: lookup(fleet, p, "tasks.web") == addresses(fleet, "web"),  # type: ignore[misc]
            f"{host} knows the tasks that there are",
        )
        assert ask(fleet, peer, "web") is not None
        answers(fleet, "lan", HOSTS[host], PORT, REPLICAS)
    fleet.until(lambda: blocks_agree(fleet), "all hosts know the same blocks")
    kinds = [backends(fleet, peer) for peer in peers.values()]
    assert kinds[0]
    assert kinds[0] == kinds[1] == kinds[2]


def blocks_agree(fleet: Fleet) -> bool:
    """Whether every host leads every block of another to that one, and to nobody's none."""
    seen = {host: blocks(fleet, host) for host in HOSTS}
    holders = {block: HOSTS[host] for host, (own, _) in seen.items() for block in own}
    return all(own for own, _ in seen.values()) and all(
        others == {block: at for block, at in holders.items() if at != HOSTS[host]}
        for host, (_, others) in seen.items()
    )
