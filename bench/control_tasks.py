"""A million tasks decided, saved and loaded by a new leader, and one more service. SHELL.

The controller is complete: election, lease, users' requests, guarded transactions to its own etcd.
Agents are replaced: the nodes' heartbeats go directly to the loop.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.control_rig import (
    cpu_s,
    embedded_etcd,
    fill,
    fleet,
    leader,
    open_store,
    resident_mib,
    service_spec,
)
from bench.report import Figure
from controller.api.changes.services import create_service
from controller.brain.decide import decide
from controller.identity.caller import ANONYMOUS
from controller.leader.loop import Loop
from controller.store.embedded import EmbeddedEtcd
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Dirty, Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

ADDED = 30
"""Small services added to the full fleet."""
RELOADS = 3
REQUESTS_AT_ONCE = 100


def measure(quick: bool) -> Iterator[Figure]:
    """1,000 services of 1,000 replicas on 10,000 nodes."""
    nodes, services, replicas = (50, 10, 50) if quick else (10_000, 1_000, 1_000)
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        yield from asyncio.run(_measure(Path(folder), nodes, services, replicas))


async def _measure(folder: Path, nodes: int, services: int, replicas: int) -> list[Figure]:
    async with embedded_etcd(folder) as etcd:
        async with open_store(etcd) as store:
            await fill(store, fleet(nodes))
        async with leader(etcd, folder) as loop:
            filled = await _fill_up(loop, etcd, services, replicas)
            added = [_decided(loop.state), await _persisted(loop)]
        expected = services * replicas + 10 * ADDED
        return [filled, _reloaded(folder, expected), *added]


async def _fill_up(loop: Loop, etcd: EmbeddedEtcd, services: int, replicas: int) -> Figure:
    pid = etcd.pid or 0
    specs = [service_spec(index, replicas) for index in range(services)]
    used_s, etcd_s, began = time.process_time(), cpu_s(pid), time.monotonic()
    for first in range(0, services, REQUESTS_AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for spec in specs[first : first + REQUESTS_AT_ONCE]:
                group.create_task(loop.submit(partial(_creation, spec), ANONYMOUS))
    while loop.state.tasks_in_state[TaskState.ASSIGNED] < services * replicas:
        await asyncio.sleep(0.02)
    await loop.wait_saved()
    took_s = time.monotonic() - began
    return Figure(
        f"{services * replicas:,} tasks of {services:,} services decided, persisted",
        took_s,
        "s",
        15,
        note=f"processor: controller {time.process_time() - used_s:.1f} s, "
        f"etcd {cpu_s(pid) - etcd_s:.1f} s; resident {resident_mib(os.getpid()):.0f} MiB",
    )


def _creation(
    spec: ServiceSpec, state: State, now: Instant, ids: IdSource
) -> tuple[Writes, Service]:
    return create_service(state, spec, (), now, ids)


def _decided(state: State) -> Figure:
    """Decide ten more replicas, without applying the decision."""
    took_ms = []
    for index in range(ADDED):
        now, ids, dirty = SystemClock().now(), RandomIds(), Dirty()
        writes, service = create_service(state, service_spec(1_000_000 + index, 10), (), now, ids)
        state.apply(writes)
        dirty.services.add(service.id)
        began = time.perf_counter()
        decision = decide(state, dirty, now, ids)
        took_ms.append(1000 * (time.perf_counter() - began))
        assert len(decision.writes.tasks) == 10
        state.apply(Writes(removed=(SERVICE.object_name(service.id),)))
    return Figure(
        "10 replicas more on the full fleet, decided",
        statistics.median(took_ms),
        "ms",
        20,
        note=f"median of {ADDED}, worst {max(took_ms):.1f} ms",
    )


async def _persisted(loop: Loop) -> Figure:
    """Ten more replicas, from the request until the store has the placed tasks."""
    took_ms = []
    for index in range(ADDED):
        began = time.perf_counter()
        service = await loop.submit(
            partial(_creation, service_spec(1_000_000 + index, 10)), ANONYMOUS
        )
        await loop.wait_saved()
        assert len(loop.state.tasks_of_service(service.id).slots) == 10
        took_ms.append(1000 * (time.perf_counter() - began))
    return Figure(
        "10 replicas more, request to persisted",
        statistics.median(took_ms),
        "ms",
        note=f"median of {ADDED}, worst {max(took_ms):.1f} ms",
    )


def _reloaded(folder: Path, expected: int) -> Figure:
    took_s, mib = [], ""
    for _ in range(RELOADS):
        words = [sys.executable, "-m", "bench.control_reload", str(folder)]
        output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        seconds, tasks, mib = output.split()
        assert int(tasks) == expected, f"{tasks} tasks came back of {expected}"
        took_s.append(float(seconds))
    others = ", ".join(f"{one:.2f}" for one in sorted(took_s)[1:])
    return Figure(
        f"{expected:,} tasks reloaded by a new leader",
        min(took_s),
        "s",
        8,
        note=f"best of {RELOADS}, others {others} s; resident {mib} MiB",
    )
