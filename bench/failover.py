"""The time without a replica: its process is killed, its host loses power or its network."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from statistics import median

from bench.fleet import Fleet, playground, service, wait_until
from bench.report import Figure
from bench.system import System
from pyswarm_core.clock import SECOND, seconds

_LOST = "host3"
_SETTLE_S = 1.0


def measure(quick: bool) -> Iterable[Figure]:
    """Crashed tasks and lost hosts."""
    with playground() as fleet:
        for delay in (0, SECOND):
            took = median(crash_s(fleet, delay) for _ in range(1 if quick else 5))
            yield Figure(
                f"SIGKILLed task replaced, delay {seconds(delay):g} s",
                took,
                "s",
                seconds(delay) + 0.3,
                against="delay + 0.3 s",
            )
        for verb in ("kill", "cut"):
            yield from _losses(fleet, verb, 1 if quick else 10, 6 if quick else 30)


def _losses(fleet: Fleet, verb: str, times: int, replicas: int) -> Iterable[Figure]:
    verdicts: list[float] = []

    def note(lost_at: float) -> None:
        verdicts.append(fleet.client.node(_LOST).node.status.since / SECOND - lost_at)

    took = [lose_s(fleet, verb, replicas, note) for _ in range(times)]
    yield Figure(
        f"lost host ({verb}): node down, worst",
        max(verdicts),
        "s",
        1.5,
        note=f"median {median(verdicts):.2f} s",
    )
    yield Figure(
        f"lost host ({verb}): replicas run elsewhere, median",
        median(took),
        "s",
        2,
        note=f"worst {max(took):.2f} s; Docker Swarm: 18-21 s",
    )


def crash_s(system: System, delay: int) -> float:
    """Seconds from SIGKILL to another task running in the slot."""
    created = system.create(service("crash", 3, restart_delay=delay))
    time.sleep(_SETTLE_S)
    victim = system.replicas(created)[0]

    def replaced() -> bool:
        now = system.replicas(created)
        return any(r.slot == victim.slot and r.task != victim.task for r in now)

    began = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(replaced)
    took = time.monotonic() - began
    system.remove(created)
    return took


def lose_s(
    system: System, verb: str, replicas: int, found: Callable[[float], None] = lambda _: None
) -> float:
    """Seconds from the loss of a host to all replicas running on the others; then `found` is told
    the time of the loss, while the host is still lost.
    """
    created = system.create(service("lost", replicas))

    def elsewhere() -> bool:
        now = system.replicas(created)
        return len({r.slot for r in now if r.host != _LOST}) == replicas

    time.sleep(random.uniform(_SETTLE_S, 2 * _SETTLE_S))  # anywhere between two heartbeats
    lost_at, began = time.time(), time.monotonic()
    system.lose(_LOST, verb)
    wait_until(elsewhere, 0.05)
    took = time.monotonic() - began
    found(lost_at)
    system.heal(_LOST)
    system.remove(created)
    return took
