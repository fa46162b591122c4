"""A playground's hosts are hosts of their own, and it leaves nothing behind, whatever happened."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute, netns

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.docker.units import parse_time
from tests.e2e.acceptance.fleet import IMAGE, PYSWARM, Fleet, playground

pytestmark = pytest.mark.slow

OWN = ("/etc", "/run", "/var/lib")


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its second host loses power, again and again."""
    return own_fleet


def _traces(name: str) -> list[str]:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    places = ("/run/netns", "/run/pyswarm/playground", "/var/lib/pyswarm/playground")
    found = [str(path) for place in places for path in Path(place).glob(f"{name}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/pyswarm-{name}")]
    return found + [line for line in mounts if f"/{name}/" in line]


def test_down_leaves_nothing_even_of_a_fleet_in_trouble(tmp_path: Path) -> None:
    with playground(tmp_path, 2, "--cpus", "2", "--memory", "1G") as fleet:
        fleet("network", "create", "-d", "overlay", "net")
        fleet("service", "create", "--name", "web", "--network", "net", "--replicas", "4", IMAGE)
        fleet("playground", "cut", "host1")
        fleet("playground", "kill", "host2")
        assert _traces(fleet.name)
        fleet("playground", "down")
        assert _traces(fleet.name) == []


def test_a_heal_that_failed_halfway_is_repeated(fleet: Fleet) -> None:
    fleet("playground", "kill", "host2")
    netns.create(Path(fleet.netns("host2")).name)  # as after half of a heal
    fleet("playground", "heal", "host2")
    assert {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"}


def test_a_host_keeps_its_mac_over_a_power_loss(fleet: Fleet) -> None:
    before = _mac(fleet.netns("host2"))
    fleet("playground", "kill", "host2")
    fleet("playground", "heal", "host2")
    assert _mac(fleet.netns("host2")) == before != _mac(fleet.netns("host1"))


def _mac(host: str) -> str:
    with IPRoute(netns=host, flags=0) as links:
        (eth0,) = links.link("get", ifname="eth0")
        return str(eth0.get_attr("IFLA_ADDRESS"))


def test_a_controller_and_its_etcd_go_before_agents(fleet: Fleet) -> None:
    first = (fleet.daemon("host1", "controller"), fleet.etcd())
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in first] == [-10, -10]
    assert os.getpriority(os.PRIO_PROCESS, fleet.daemon("host1")) == 0
    session = Path(f"/proc/{first[0]}/autogroup")
    assert not session.exists() or session.read_text().split()[1:] == ["nice", "-10"]


def test_what_a_host_writes_is_on_that_host_alone_and_outlives_a_power_loss_on_its_disk(
    fleet: Fleet,
) -> None:
    def has(host: str) -> list[str]:
        found = fleet.on(host, "find", *OWN, "-maxdepth", "1", "-name", "mine").out.split()
        return [path.removesuffix("/mine") for path in found]

    run = [str(PYSWARM), "playground", "exec", "host2", "--"]
    assert fleet.on_machine([*run, "mkdir", *(f"{place}/mine" for place in OWN)]).code == 0
    assert (has("host1"), has("host2")) == ([], list(OWN))
    assert [place for place in OWN if Path(place, "mine").exists()] == []
    fleet("playground", "kill", "host2")
    assert "has no power" in fleet.refused("playground", "exec", "host2", "true")
    fleet("playground", "heal", "host2")
    assert has("host2") == ["/etc", "/var/lib"]


def test_exec_enters_the_host_and_stays_in_the_folder(fleet: Fleet) -> None:
    script = "cat /etc/hostname; ip -o -4 addr show eth0; pwd; exit 7"
    done = fleet.on_machine([str(PYSWARM), "playground", "exec", "host2", "sh", "-c", script])
    name, address, folder = done.out.splitlines()
    assert (done.code, name, folder) == (7, "host2", str(Path.cwd()))
    assert "10.99.0.2/24" in address
    # The daemons of a host are on it too.
    here = fleet.on("host2", "readlink", "/proc/self/ns/mnt", "/proc/self/ns/net").out.split()
    agent = Path(f"/proc/{fleet.daemon('host2')}/ns")
    assert [str((agent / kind).readlink()) for kind in ("mnt", "net")] == here


def test_down_leaves_nothing_of_an_up_that_was_killed(tmp_path: Path) -> None:
    fleet = Fleet("killedup", tmp_path)
    begun = fleet.run_dir / "pyswarm.sock"
    words = [str(PYSWARM), "playground", "up", "--disk", "256m"]
    process = subprocess.Popen(words, env=fleet.environment, stderr=subprocess.DEVNULL)
    try:
        fleet.until(lambda: begun.exists() or process.poll() is not None, "its controller is up")
    finally:
        process.kill()
        process.wait()
        fleet.run("playground", "down")
    assert _traces(fleet.name) == []


def _certificate(fleet: Fleet, host: str) -> tuple[str, int]:
    """The id of the host's node, and when its newest certificate ends."""
    (node,) = json.loads(fleet("node", "inspect", host))
    return node["ID"], parse_time(node["Certificate"]["ExpiresAt"], Instant(0))


def _identity(fleet: Fleet, host: str) -> dict[str, Any]:
    """What the host's agent has stored."""
    found: dict[str, Any] = json.loads((fleet.state_dir / host / "identity.json").read_text())
    return found


def _sessions(fleet: Fleet, host: str) -> int:
    """How many sessions the host's agent has begun since the host was switched on."""
    return (fleet.run_dir / host / "agent.log").read_text().count(" session.started")


def test_a_host_without_power_beyond_its_certificate_s_end_renews_it_by_its_key(
    fleet: Fleet,
) -> None:
    others = ("host1", "host3")
    began = {host: _sessions(fleet, host) for host in others}
    fleet("swarm", "update", "--cert-expiry", "20s")
    fleet("swarm", "ca", "--rotate", "-q")  # every host has a certificate of twenty seconds now
    fleet("playground", "kill", "host2")
    before, former = _identity(fleet, "host2"), _certificate(fleet, "host2")
    fleet.until(
        lambda: min(_certificate(fleet, host)[1] for host in others) > former[1] + 15 * SECOND,
        "the others have renewed since it ended",
    )
    assert _certificate(fleet, "host2") == former
    fleet("playground", "heal", "host2")
    node_id, ends_at = _certificate(fleet, "host2")
    assert (node_id, ends_at > former[1] + 15 * SECOND) == (former[0], True)
    assert _identity(fleet, "host2")["certificate"]["key"] != before["certificate"]["key"]
    rows = [json.loads(line) for line in fleet("audit", "--format", "json").split("\n")]
    returns = [(row["Name"], row["Result"]) for row in rows if row["Verb"] == "swarm rejoin"]
    assert returns == [("host2", "ok")]
    assert {host: _sessions(fleet, host) for host in others} == began
    assert {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"}
    fleet("swarm", "update", "--cert-expiry", "2160h")
