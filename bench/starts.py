"""Starts of ten containers with something beside starts of ten without, in turns. SHELL over a
playground of one host.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.fleet import Fleet, service
from bench.report import Figure
from pyswarm_core.specs import ServiceSpec

REPLICAS = 10

Change = Callable[[ServiceSpec], ServiceSpec]
"""The same service with something more."""


class Start(NamedTuple):
    """What ten starts cost."""

    cpu_ms: float
    """Processor time of the host for each: containers, agent, controller and etcd."""
    wall_ms: float
    """Until all of them run."""


def in_turns(fleet: Fleet, turns: int, change: Change) -> tuple[list[Start], list[Start]]:
    """The starts of a plain service, and of the changed one."""
    plain: list[Start] = []
    changed: list[Start] = []
    spec = service("start", REPLICAS)
    for number in range(turns + 1):
        specs = [(plain, spec), (changed, change(spec))]
        for starts, one in specs[:: 1 if number % 2 else -1]:
            start = _started(fleet, one)
            if number:  # the first ones fill caches
                starts.append(start)
    return plain, changed


def _started(fleet: Fleet, spec: ServiceSpec) -> Start:
    before_s, began = fleet.cpu_seconds(), time.perf_counter()
    service_id = fleet.create(spec)
    took_s, used_s = time.perf_counter() - began, fleet.cpu_seconds() - before_s
    fleet.remove(service_id)
    return Start(1e3 * used_s / REPLICAS, 1e3 * took_s)


def ratio(
    name: str, plain: list[Start], changed: list[Start], bound: float, *, wall: bool = False
) -> Figure:
    """The ratio of the medians."""
    with_, without = (
        statistics.median(one.wall_ms if wall else one.cpu_ms for one in starts)
        for starts in (changed, plain)
    )
    note = f"{with_:.1f} ms, {without:.1f} ms without; {len(plain)} turns"
    return Figure(name, with_ / without, "x", bound, note=note)
