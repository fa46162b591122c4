"""Lists of many containers: `pyswarm ps` as a process of its own, from a controller without agents.

The controller is complete, with its own etcd, in this process. The nodes' heartbeats and the states
of their tasks go directly to its loop.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.control_rig import embedded_etcd, fill, fleet, leader, open_store, service_spec
from bench.report import Figure
from controller.api.changes.services import create_service
from controller.identity.caller import ANONYMOUS
from controller.leader.loop import Loop
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.objects import Service, TaskDetail, TaskStatus
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

SERVICES = 10
_WAIT_S = 60.0


class Listed(NamedTuple):
    """Seconds of one command."""

    wall_s: float
    own_s: float
    """Its processor time."""
    cpu_s: float
    """The controller's meanwhile."""


def measure(quick: bool) -> Iterator[Figure]:
    """1,000 tasks of 10 services on 100 nodes."""
    nodes, replicas, runs = (10, 10, 3) if quick else (100, 100, 15)
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        yield from asyncio.run(_measure(Path(folder), nodes, replicas, runs))


async def _measure(folder: Path, nodes: int, replicas: int, runs: int) -> list[Figure]:
    tasks = SERVICES * replicas
    async with embedded_etcd(folder) as etcd:
        async with open_store(etcd) as store:
            await fill(store, fleet(nodes))
        async with leader(etcd, folder) as loop:
            await _run(loop, replicas)
            host = f"unix://{folder}/api.sock"
            await _listed(host, tasks)
            found = [await _listed(host, tasks) for _ in range(runs)]
            starts = [await _started() for _ in range(runs)]
    wall_s = median(one.wall_s for one in found)
    note = f"at least {1e3 * min(one.wall_s for one in found):.0f} ms; the CLI's start"
    note += f" {1e3 * median(one.wall_s for one in starts):.0f} ms; processor time: CLI"
    note += f" {1e3 * median(one.own_s for one in found):.0f} ms, its start"
    note += f" {1e3 * median(one.own_s for one in starts):.0f} ms,"
    note += f" controller {1e3 * median(one.cpu_s for one in found):.0f} ms"
    return [Figure(f"ps of {tasks:,} containers", 1e3 * wall_s, "ms", 300, note=note)]


async def _run(loop: Loop, replicas: int) -> None:
    """Create the services; return when all their tasks run."""
    for number in range(SERVICES):
        await loop.submit(partial(_creation, service_spec(number, replicas)), ANONYMOUS)
    total = SERVICES * replicas
    async with asyncio.timeout(_WAIT_S):
        while loop.state.tasks_in_state[TaskState.ASSIGNED] < total:
            await asyncio.sleep(0.02)
        by_node: dict[NodeId, list[TaskStatus]] = {}
        for task in loop.state.tasks.values():
            detail = TaskDetail(pid=4711, command="/usr/local/bin/app --listen 0.0.0.0:8080")
            status = TaskStatus(task.id, TaskState.RUNNING, detail)
            by_node.setdefault(task.node_id, []).append(status)
        for node_id, statuses in by_node.items():
            loop.intake(node_id, statuses)
        while loop.state.tasks_in_state[TaskState.RUNNING] < total:
            await asyncio.sleep(0.02)
    await loop.wait_saved()


def _creation(
    spec: ServiceSpec, state: State, now: Instant, ids: IdSource
) -> tuple[Writes, Service]:
    return create_service(state, spec, (), now, ids)


async def _listed(host: str, tasks: int) -> Listed:
    """Run `ps` once; its lines are counted."""
    found, output = await _ran("-c", "from cli.start import main; main()", "--host", host, "ps")
    assert output.count(b"\n") == tasks + 1, output[-500:]
    return found


async def _started() -> Listed:
    """A process that imports what `ps` imports."""
    imports = "import os, cli.main, cli.client, cli.container.ps, cli.container.calls"
    render = "cli.render.containers, cli.render.listing, cli.render.output"
    return (await _ran("-c", f"{imports}, {render}; os._exit(0)"))[0]


async def _ran(*words: str) -> tuple[Listed, bytes]:
    began, used_s, own_s = time.monotonic(), time.process_time(), _children_s()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", *words, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    took_s = time.monotonic() - began
    return Listed(took_s, _children_s() - own_s, time.process_time() - used_s), output


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
