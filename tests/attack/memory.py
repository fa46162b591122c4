"""What the memory of daemons may grow by under an attack. PURE.

A controller keeps these, each with a bound; an attack may fill all of them:

    events            EVENTS_KEPT = 10,000, of 0.6 KiB as measured                      6 MiB
    certificates      4,096 parsed ones (controller/grpc/peers.py), 2 KiB with the PEM  8 MiB
    audit records     AUDIT_BYTES and twice AUDIT_BYTES_OTHER, and their index         14 MiB
                                                                                       28 MiB

The allocators of Python, glibc and gRPC keep parts of what a peak of calls took: 44 MiB besides. As
measured a controller grows from 82 MiB to 122, 130 and 140 MiB in 160 s under the load.

An agent stores nothing of an attack. It holds up to NODE_TASKS_MAX = 1,000 tasks and some hundred
tunnels at once, and its allocators keep parts of that. As measured it grows from 60 MiB to about
98, on a busy machine to 112, and no further in the next 190 s; in some runs the peak of tasks that
takes it there comes in the last half. So what an agent grows by late counts above 52 MiB; 64 MiB
are allowed in all.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

MIB = 1 << 20
STORES = 28 * MIB
ALLOCATORS = 44 * MIB
CONTROLLER = "controller"
AGENT_GROWTH_MAX = 64 * MIB
AGENT_ALLOCATORS = 52 * MIB
LEAK_MAX = 8 * MIB
"""Of a minute since the half. A leak of 1 KiB in each of 200 calls a second is 12 MiB."""
NOISE = 8 * MIB
"""Between two readings, however short the time."""


class Reading(NamedTuple):
    """The resident bytes of each daemon at a time in seconds."""

    at_s: float
    rss: Mapping[str, int]


def grown(readings: Sequence[Reading]) -> list[str]:
    """What grew too much, in a line each. The readings are of the start, after the warm-up, of the
    half and of the end.
    """
    start, _, half, end = readings
    found = []
    minutes = (end.at_s - half.at_s) / 60
    for name, after in end.rss.items():
        most, kept = AGENT_GROWTH_MAX, start.rss[name] + AGENT_ALLOCATORS
        if name == CONTROLLER:
            most, kept = STORES + ALLOCATORS, 0
        added, late = after - start.rss[name], after - max(half.rss[name], kept)
        if added > most:
            found.append(
                f"{name}: {added / MIB:.1f} MiB more than at the start: {_row(name, readings)}"
            )
        if late > NOISE + LEAK_MAX * minutes:
            found.append(
                f"{name}: {late / MIB:.1f} MiB more in the last {60 * minutes:.0f} s:"
                f" {_row(name, readings)}"
            )
    return found


def told(readings: Sequence[Reading]) -> Iterator[str]:
    """A line of each daemon."""
    for name in readings[0].rss:
        yield f"{name}: {_row(name, readings)}"


def _row(name: str, readings: Sequence[Reading]) -> str:
    words = ("at the start", "after the warm-up", "at the half", "at the end")
    sizes = (
        f"{one.rss[name] / MIB:.0f} MiB {word}" for one, word in zip(readings, words, strict=True)
    )
    return ", ".join(sizes)
