"""How long a replica is missed: its process killed, its host without power, its host cut off."""

import os
import signal
import time
from collections.abc import Iterable
from statistics import median

from bench.fleet import NAME, Fleet, playground, pyswarm, service, wait_until
from bench.report import Figure
from pyswarm_core.clock import SECOND, seconds

_LOST = "host3"


def measure(quick: bool) -> Iterable[Figure]:
    """Crashed tasks and lost hosts."""
    with playground() as fleet:
        for delay in (0, SECOND):
            took = median(_crash(fleet, delay) for _ in range(1 if quick else 5))
            yield Figure(
                f"SIGKILLed task replaced, delay {seconds(delay):g} s",
                took,
                "s",
                seconds(delay) + 0.3,
                against="delay + 0.3 s",
            )
        for verb in ("kill", "cut"):
            yield Figure(
                f"lost host ({verb}): replicas run elsewhere",
                _lose(fleet, verb, replicas=6 if quick else 30),
                "s",
                6,
                note="Docker Swarm: 18-21 s",
            )


def _crash(fleet: Fleet, delay: int) -> float:
    """Seconds from SIGKILL to another task running in the slot."""
    created = fleet.create(service("crash", 3, restart_delay=delay))
    victim = fleet.running(created)[0].task

    def replaced() -> bool:
        now = fleet.running(created)
        return any(v.task.slot == victim.slot and v.task.id != victim.id for v in now)

    began = time.monotonic()
    os.kill(victim.detail.pid, signal.SIGKILL)
    wait_until(replaced)
    took = time.monotonic() - began
    fleet.remove(created)
    return took


def _lose(fleet: Fleet, verb: str, replicas: int) -> float:
    """Seconds from the loss of a host to all replicas running on the others."""
    created = fleet.create(service("lost", replicas))

    def elsewhere() -> bool:
        views = fleet.running(created)
        return len({v.task.slot for v in views if v.node_name != _LOST}) == replicas

    began = time.monotonic()
    pyswarm("playground", verb, "--name", NAME, _LOST)
    wait_until(elsewhere, 0.05)
    took = time.monotonic() - began
    pyswarm("playground", "heal", "--name", NAME, _LOST)
    wait_until(lambda: fleet.client.info().nodes_ready == len(fleet.plan.hosts), 0.1)
    fleet.remove(created)
    return took
