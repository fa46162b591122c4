"""The cost of an idle fleet: memory of an agent, processor time, the CLI's start."""

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from bench import machine
from bench.fleet import Fleet, playground, service
from bench.report import Figure

_HOST = "host2"
_SETTLE_S = 3.0


def measure(quick: bool) -> Iterable[Figure]:
    """An idle fleet, then one host with a hundred containers."""
    replicas = 5 if quick else 100
    with playground() as fleet:
        yield Figure("CLI: service ls", _service_ls_s(3 if quick else 11), "s", 0.25)
        idle = _busy_share(fleet, 2 if quick else 30)
        yield Figure("idle fleet of 3 with etcd", 100 * idle, "% of a core", 5)
        before = _memory(fleet)
        created = fleet.create(service("many", replicas, host=_HOST))
        time.sleep(_SETTLE_S)
        resident = machine.resident_mib(fleet.agent_pid(_HOST))
        yield Figure(
            f"agent with {replicas} containers, resident",
            resident,
            "MiB",
            60,
            note="dockerd and containerd: 140",
        )
        growth = (_memory(fleet) - before) / replicas
        yield Figure("memory (PSS) per container, conmon included", growth, "MiB", 1)
        busy = _busy_share(fleet, 2 if quick else 20)
        yield Figure(f"fleet with {replicas} waiting containers", 100 * busy, "% of a core")
        fleet.remove(created)


def _busy_share(fleet: Fleet, seconds: float) -> float:
    """Fraction of one processor, for all hosts together."""
    time.sleep(_SETTLE_S)
    used, began = fleet.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (fleet.cpu_seconds() - used) / (time.monotonic() - began)


def _memory(fleet: Fleet) -> float:
    """MiB of the agent and its monitors."""
    agent = fleet.agent_pid(_HOST)
    return machine.proportional_mib([agent, *machine.children(agent)])


def _service_ls_s(runs: int) -> float:
    words = [str(Path(sys.executable).with_name("pyswarm")), "service", "ls"]
    taken = []
    for _ in range(runs):
        began = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.monotonic() - began)
    return median(taken)
