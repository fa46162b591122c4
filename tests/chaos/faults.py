"""What is done to a fleet: each fault breaks something, waits, and mends it.

A fault names the host it takes away, if any: only such a fault excuses failed requests, and only
until the verdict. Whatever was stopped goes on and whatever was cut is healed when a fault ends.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, count
from typing import NamedTuple

from tests.e2e.acceptance.fleet import Fleet

HOSTS = ("host1", "host2", "host3")
MORTAL = HOSTS[1:]
"""The first host also runs the only controller."""


class Fault(NamedTuple):
    """One kind of fault."""

    name: str
    weight: int
    takes_host: bool
    work: Callable[["Hand", str, float], None]
    """Breaks and mends; its arguments are the host drawn and how long it may last, in seconds."""
    seconds: tuple[float, float] = (0.0, 0.0)


class Hand:
    """Carries faults out."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def end(self, pid: int) -> None:
        """SIGKILL a process, if it is still there."""
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pause(self, pid: int, seconds: float) -> None:
        """SIGSTOP a process, and let it go on."""
        if not pid:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    def take(self, verb: str, host: str, seconds: float) -> None:
        """Take a host away with a playground's verb, and give it back."""
        self.fleet("playground", verb, "--name", self.fleet.name, host)
        try:
            time.sleep(seconds)
        finally:
            # A fault ends when the host is back, not when it is ready.
            self.fleet("playground", "heal", "--detach", "--name", self.fleet.name, host)


FAULTS = (
    Fault("agent SIGKILL", 3, False, lambda hand, host, _: hand.end(hand.fleet.daemon(host))),
    Fault(
        "agent SIGSTOP",
        3,
        False,
        lambda hand, host, seconds: hand.pause(hand.fleet.daemon(host), seconds),
        (1.0, 10.0),
    ),
    Fault(
        "controller SIGKILL",
        2,
        False,
        lambda hand, _, __: hand.end(hand.fleet.daemon("host1", "controller")),
    ),
    Fault(
        "controller SIGSTOP",
        2,
        False,
        lambda hand, _, seconds: hand.pause(hand.fleet.daemon("host1", "controller"), seconds),
        (0.5, 5.0),
    ),
    Fault("etcd SIGKILL", 2, False, lambda hand, _, __: hand.end(hand.fleet.etcd())),
    Fault(
        "etcd SIGSTOP",
        2,
        False,
        lambda hand, _, seconds: hand.pause(hand.fleet.etcd(), seconds),
        (0.5, 4.0),
    ),
    Fault(
        "host cut off",
        3,
        True,
        lambda hand, host, seconds: hand.take("cut", host, seconds),
        (4.0, 12.0),
    ),
    Fault(
        "host without power",
        3,
        True,
        lambda hand, host, seconds: hand.take("kill", host, seconds),
        (4.0, 12.0),
    ),
)


def drawn(chance: random.Random) -> Iterator[tuple[Fault, str, float]]:
    """Faults without end, each kind once at first: with the host concerned and its seconds."""
    weights = [fault.weight for fault in FAULTS]
    more = (chance.choices(FAULTS, weights)[0] for _ in count())
    for fault in chain(chance.sample(FAULTS, len(FAULTS)), more):
        host = chance.choice(MORTAL if fault.takes_host else HOSTS)
        yield fault, host, chance.uniform(*fault.seconds)
