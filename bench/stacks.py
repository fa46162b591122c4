"""Stacks: planned, stored and compared by a controller, and the commands that do it. SHELL.

The controller is complete, with its own etcd, in this process, which also is its client. Tasks are
reported as running directly to its loop. The commands are processes of their own.
"""

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.control_rig import embedded_etcd, fill, fleet, leader, open_store
from bench.control_slices import BOUND_MS, SHOWN
from bench.report import Figure
from bench.slices import Longest, measured
from compose.files import Disk
from compose.mapping.mapped import Options
from compose.mapping.stack import stack_of
from compose.model import load
from compose.projects import Request
from controller.leader.loop import Loop
from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.api.v1 import stacks_pb2 as pb
from pyswarm_core.codec import to_proto
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import TaskDetail, TaskStatus
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.states import TaskState

SERVICES = 50
LARGE = 500
NODES = 10
DIGEST = "0" * 64
PERIOD_S = 0.02
PLAN_MS, STORE_S, UP_S, CONFIG_S = 100, 1, 0.6, 0.3
"""The bounds."""


def compose_file(services: int, port: int) -> str:
    """A file as people write them: each service depends on the one before it; the first port that
    they publish.
    """
    lines = [
        "x-common: &common",
        "  restart: always",
        "  logging: {driver: json-file}",
        "services:",
    ]
    for number in range(services):
        lines += [
            f"  app{number}:",
            "    <<: *common",
            f"    image: registry.example:5000/app@sha256:{DIGEST}",
            "    command: [app, --listen, 0.0.0.0:8080]",
            f'    environment: {{NAME: "app{number}", MODE: "${{MODE:-production}}", LEVEL: info}}',
            '    labels: ["com.example.team=shop"]',
            "    volumes: [data:/data]" if number % 10 == 0 else "    read_only: true",
            f'    ports: ["{port + number}:8080"]' if number % 5 == 0 else "    init: true",
            "    deploy: {replicas: 1, resources: {limits: {cpus: '0.5', memory: 64M}}}",
        ]
        if number:
            lines.append(f"    depends_on: [app{number - 1}]")
    return "\n".join([*lines, "volumes: {data: {}}", ""])


def measure(quick: bool) -> Iterator[Figure]:
    """50 services, and 500; `compose config` of 12."""
    services, large, runs = (5, 10, 2) if quick else (SERVICES, LARGE, 11)
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        yield from asyncio.run(_measure(Path(folder), services, large, runs))


async def _measure(folder: Path, services: int, large: int, runs: int) -> list[Figure]:
    file = folder / "compose.yaml"
    async with embedded_etcd(folder) as etcd:
        async with open_store(etcd) as store:
            await fill(store, fleet(NODES))
        async with leader(etcd, folder) as loop, _agents(loop):
            host = f"unix://{folder}/api.sock"
            async with channel(f"unix:{folder}/api.sock", None, aio=True) as connection:
                stub: Any = control_pb2_grpc.ControlStub(connection)
                figures = await _applied(stub, _spec(file, services, "many", 20_000), runs)
                figures.append(await _slices(stub, _spec(file, large, "large", 21_000)))
            file.write_text(compose_file(services, 22_000))
            figures.append(await _up(host, file, services, runs))
    file.write_text(compose_file(12, 23_000))
    words = ("compose", "-f", str(file), "config")
    note, took_s = await _command(words, runs)
    name = f"compose config of 12 services, {file.stat().st_size:,} bytes"
    return [*figures, Figure(name, took_s, "s", CONFIG_S, note=note)]


def _spec(file: Path, services: int, name: str, port: int) -> StackSpec:
    file.write_text(compose_file(services, port))
    request = Request(
        directory=str(file.parent), files=(str(file),), project_name=name, is_stack=True
    )
    return stack_of(load(request, Disk()), Options(is_stack=True, builds=False), Disk()).spec


@asynccontextmanager
async def _agents(loop: Loop) -> AsyncIterator[None]:
    """Report every task as running, as agents would."""
    async with asyncio.TaskGroup() as group:
        reporting = group.create_task(_report(loop))
        try:
            yield
        finally:
            reporting.cancel()


async def _report(loop: Loop) -> None:
    while True:
        found: dict[NodeId, list[TaskStatus]] = {}
        for task in loop.state.tasks.values():
            if task.state is TaskState.ASSIGNED:
                status = TaskStatus(task.id, TaskState.RUNNING, TaskDetail())
                found.setdefault(task.node_id, []).append(status)
        for node_id, statuses in found.items():
            loop.intake(node_id, statuses)
        await asyncio.sleep(PERIOD_S)


async def _applied(stub: Any, spec: StackSpec, runs: int) -> list[Figure]:
    """From the request to the answer, over the API."""
    plan = ApplyStack(spec=spec, dry_run=True, resolve_image="never")
    apply = ApplyStack(spec=spec, resolve_image="never")
    began_s = time.process_time()
    planned = [await _asked(stub, plan) for _ in range(runs)]
    plan_ms = 1e3 * (time.process_time() - began_s) / runs
    stored_s = await _asked(stub, apply)
    same = [await _asked(stub, apply) for _ in range(runs)]
    note = f"{1e3 * min(planned):.0f} to {1e3 * max(planned):.0f} ms, processor time {plan_ms:.0f}"
    note += f" ms; unchanged {1e3 * median(same):.0f} ms"
    what = f"a new stack of {len(spec.services)} services"
    return [
        Figure(f"{what}, planned", 1e3 * median(planned), "ms", PLAN_MS, note=note),
        Figure(f"{what}, stored", stored_s, "s", STORE_S),
    ]


async def _asked(stub: Any, request: ApplyStack) -> float:
    message = to_proto(request, pb.ApplyStackRequest())
    began = time.perf_counter()
    await stub.ApplyStack(message)
    return time.perf_counter() - began


async def _slices(stub: Any, spec: StackSpec) -> Figure:
    """The longest callback while a large stack is applied, and applied again."""
    longest = Longest()
    message = to_proto(ApplyStack(spec=spec, resolve_image="never"), pb.ApplyStackRequest())
    with measured(longest):
        began = time.perf_counter()
        await stub.ApplyStack(message)
        took_s = time.perf_counter() - began
        await stub.ApplyStack(message)
    top = longest.top(SHOWN)
    note = f"stored in {took_s:.2f} s; processor time; "
    note += ", ".join(f"{name} {1000 * one_s:.0f}" for name, one_s in top)
    name = f"longest slice, a stack of {len(spec.services)} services"
    return Figure(name, 1000 * top[0][1] if top else 0.0, "ms", BOUND_MS, note=note)


async def _up(host: str, file: Path, services: int, runs: int) -> Figure:
    words = ("--host", host, "compose", "-p", "shop", "-f", str(file), "up", "-d")
    await _command(words, 1)
    note, took_s = await _command(words, runs)
    return Figure(f"compose up -d of {services} unchanged services", took_s, "s", UP_S, note=note)


async def _command(words: tuple[str, ...], runs: int) -> tuple[str, float]:
    """A note, and the median of the wall times of the command as a process of its own."""
    began_s = _children_s()
    took = [await _ran(*words) for _ in range(runs)]
    used_ms = 1e3 * (_children_s() - began_s) / runs
    note = f"{min(took):.2f} to {max(took):.2f} s; processor time of the command {used_ms:.0f} ms"
    return note, median(took)


async def _ran(*words: str) -> float:
    began = time.perf_counter()
    start = ("-P", "-c", "from cli.start import main; main()")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *start,
        *words,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()
    assert process.returncode == 0, error[-1000:]
    return time.perf_counter() - began


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
