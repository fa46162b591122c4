"""Ten thousand agents on one controller: idle, receiving a million tasks, reporting them. SHELL.

The controller is `python -m controller` with its own etcd. The agents are in a few other processes
on the same machine, each with its own connection. Figures of the controller are read from its
metrics and from /proc.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from bench.control_agent import Host
from bench.control_rig import (
    cpu_s,
    embedded_etcd,
    fill,
    fleet,
    free_port,
    open_store,
    resident_mib,
    scrape,
    service_spec,
)
from bench.report import Figure
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.api.v1 import control_pb2, control_pb2_grpc, specs_pb2
from pyswarm_core.codec import to_proto

SIMULATORS = 4
HELD_S = 20.0
TASKS_OF_NODE = 100
PATIENCE_S = 240.0
REPORTED = ("STARTING", "RUNNING")
SERVICES_AT_ONCE = 50
SESSIONS = "pyswarm_controller_sessions"
ASSIGNED = 'pyswarm_controller_tasks{state="assigned"}'
STATUSES = "pyswarm_controller_statuses_total"
UNSAVED = 'pyswarm_controller_queue_depth{queue="unsaved"}'


class Plane(NamedTuple):
    """A running controller."""

    pid: int
    address: str
    metrics: str
    etcd_pid: int


class Simulators:
    """The agents' processes."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes
        self._reports: list[dict[str, Any]] = [{} for _ in processes]

    async def listen(self, index: int) -> None:
        """Read the output of one process."""
        stdout = self._processes[index].stdout
        assert stdout is not None
        while line := await stdout.readline():
            self._reports[index] = json.loads(line)
        raise RuntimeError("a process of simulated agents ended")

    def count(self, what: str) -> int:
        """The sum over all."""
        return sum(report.get(what, 0) for report in self._reports)

    @property
    def received_at(self) -> float:
        """When the last agent received its last task."""
        return max(float(report.get("received_at", 0)) for report in self._reports)

    def send(self, line: str) -> None:
        """Write a line to all processes."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n".encode())


def measure(quick: bool) -> list[Figure]:
    """10,000 agents, 100 tasks each."""
    agents, services = (20, 100) if quick else (10_000, 1_000)
    held_s = 1.0 if quick else HELD_S
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        return asyncio.run(_measure(Path(folder), agents, services, held_s))


async def _measure(folder: Path, agents: int, services: int, held_s: float) -> list[Figure]:
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(embedded_etcd(folder))
        state = fleet(agents)
        async with open_store(etcd) as store:
            await fill(store, state)
        plane = await stack.enter_async_context(running_controller(folder, etcd.pid or 0))
        hosts = [Host(node.id, node.number) for node in state.nodes.values()]
        began = time.monotonic()
        sims = await stack.enter_async_context(_simulators(plane, hosts))
        await _until(lambda: sims.count("connected") == agents, "all agents connected")
        connected_s = time.monotonic() - began
        held = await _hold(plane, sims, agents, held_s, connected_s)
        figures = await _receive(plane, sims, services, agents * TASKS_OF_NODE)
        taken = await _take_in(plane, sims, agents * TASKS_OF_NODE)
        return [held, *figures, taken]


async def _hold(
    plane: Plane, sims: Simulators, agents: int, held_s: float, connected_s: float
) -> Figure:
    await asyncio.sleep(held_s / 4)
    used_s, etcd_s, began = cpu_s(plane.pid), cpu_s(plane.etcd_pid), time.monotonic()
    await asyncio.sleep(held_s)
    took_s = time.monotonic() - began
    share = 100 * (cpu_s(plane.pid) - used_s) / took_s
    etcd = 100 * (cpu_s(plane.etcd_pid) - etcd_s) / took_s
    assert sims.count("connected") == agents, f"{sims.count('lost')} sessions were lost"
    note = f"connected in {connected_s:.1f} s; resident {resident_mib(plane.pid):.0f} MiB"
    return Figure(
        f"{agents:,} agents held by one controller",
        share,
        "% of a core",
        70,
        note=f"{note}; etcd {etcd:.1f}%; {sims.count('lost')} sessions lost",
    )


async def _receive(plane: Plane, sims: Simulators, services: int, tasks: int) -> list[Figure]:
    began, used_s = time.time(), cpu_s(plane.pid)
    await _create(plane, services, tasks // services)
    decided_at = 0.0
    async with asyncio.timeout(PATIENCE_S):
        while sims.count("tasks") < tasks:
            if not decided_at and (await scrape(plane.metrics))[ASSIGNED] == tasks:
                decided_at = time.time()
            await asyncio.sleep(0.2)
    decided_at = decided_at or sims.received_at
    each = tasks // sims.count("connected")
    return [
        Figure(
            f"{tasks:,} tasks: from the last decided until every agent has its {each}",
            max(0.0, sims.received_at - decided_at),
            "s",
            10,
            note="agents receive tasks while later ones are decided",
        ),
        Figure(
            f"{tasks:,} tasks: from the users' requests until every agent has its {each}",
            sims.received_at - began,
            "s",
            25,
            note=f"decided after {decided_at - began:.1f} s; "
            f"processor: controller {cpu_s(plane.pid) - used_s:.1f} s",
        ),
    ]


async def _create(plane: Plane, services: int, replicas: int) -> None:
    async with grpc.aio.insecure_channel(plane.address, options=CHANNEL_OPTIONS) as channel:
        stub: control_pb2_grpc.ControlAsyncStub = control_pb2_grpc.ControlStub(channel)
        for first in range(0, services, SERVICES_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for index in range(first, min(first + SERVICES_AT_ONCE, services)):
                    spec = to_proto(service_spec(index, replicas), specs_pb2.ServiceSpec())
                    group.create_task(_ask(stub, control_pb2.CreateServiceRequest(spec=spec)))


async def _ask(
    stub: "control_pb2_grpc.ControlAsyncStub", request: control_pb2.CreateServiceRequest
) -> None:
    await stub.CreateService(request, timeout=PATIENCE_S)


async def _take_in(plane: Plane, sims: Simulators, tasks: int) -> Figure:
    """Every agent reports all its tasks, wave after wave."""
    before = (await scrape(plane.metrics))[STATUSES]
    used_s, etcd_s, began = cpu_s(plane.pid), cpu_s(plane.etcd_pid), time.monotonic()
    changes = tasks * len(REPORTED)
    async with asyncio.timeout(PATIENCE_S):
        for wave, state in enumerate(REPORTED, 1):
            sims.send(state)
            while (await scrape(plane.metrics))[STATUSES] < before + tasks * wave:
                await asyncio.sleep(0.1)
        took_s = time.monotonic() - began
        while (await scrape(plane.metrics))[UNSAVED]:
            await asyncio.sleep(0.1)
        saved_s = time.monotonic() - began
    used = f"controller {cpu_s(plane.pid) - used_s:.1f} s"
    used += f", etcd {cpu_s(plane.etcd_pid) - etcd_s:.1f} s"
    return Figure(
        "status changes taken in",
        changes / took_s,
        "/s",
        20_000,
        at_least=True,
        note=f"{changes:,} in {took_s:.1f} s, all in the store after {saved_s:.1f} s; "
        f"processor: {used}",
    )


@asynccontextmanager
async def running_controller(folder: Path, etcd_pid: int) -> AsyncIterator[Plane]:
    """`python -m controller` with the etcd in `folder`, once it leads."""
    api, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    words = ["-m", "controller", f"--state-dir={folder}", f"--listen={api}"]
    words += [f"--metrics-addr={metrics}", "--log-level=warning"]
    process = await asyncio.create_subprocess_exec(sys.executable, *words)
    plane = Plane(process.pid, api, metrics, etcd_pid)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while SESSIONS not in await scrape(metrics):
                if process.returncode is not None:
                    raise RuntimeError("the controller ended")
                await asyncio.sleep(0.05)
        yield plane
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def _simulators(plane: Plane, hosts: list[Host]) -> AsyncIterator[Simulators]:
    processes = []
    for index in range(SIMULATORS):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bench.control_agent"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(f"{json.dumps([plane.address, hosts[index::SIMULATORS]])}\n".encode())
        processes.append(process)
    sims = Simulators(processes)
    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(sims.listen(index)) for index in range(SIMULATORS)]
        try:
            yield sims
        finally:
            for task in listening:
                task.cancel()
            for process in processes:
                process.kill()
                await process.wait()


async def _until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # there is no notification from other processes
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"timed out after {PATIENCE_S:g} s: {what}") from None
