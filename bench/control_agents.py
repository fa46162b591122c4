"""Ten thousand agents on one controller: idle, receiving a million tasks, reporting them. SHELL.

The controller is `python -m controller` with its own etcd. The agents are in a few other processes
on the same machine, each with its own connection and certificate. Figures of the controller are
read from its metrics and from /proc. Before that the same is measured without TLS
(`bench.control_plain`): what TLS costs is the difference within one run.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.control_agent import Host
from bench.control_rig import (
    certified,
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
from controller.identity.keyfile import create_key
from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2, control_pb2_grpc, specs_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.certificates import CertificateAuthority

PLAIN, TLS = "bench.control_plain", "controller"
"""The programs that are compared."""
TICK = 0.01
"""The smallest processor time, in seconds, that /proc shows."""
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
    socket: str
    """For users."""
    address: str
    """For agents."""
    metrics: str
    etcd_pid: int


class Measured(NamedTuple):
    """What was measured of one controller and its agents."""

    figures: list[Figure]
    held: float
    """% of a core while nothing happens."""
    received_s: float
    """Processor seconds of the controller until all agents had their tasks."""
    taken_s: float
    """And until it had taken in all their reports."""
    reconnected_s: float
    """From the next leader's start until all had a session with it."""


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
    measured = []
    for program in (PLAIN, TLS):
        with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
            rig = Rig(Path(folder), program, agents, services, held_s)
            measured.append(asyncio.run(_measure(rig)))
    plain, secure = measured
    return [*secure.figures, *_costs(plain, secure)]


class Rig(NamedTuple):
    """What is to be measured."""

    folder: Path
    program: str
    agents: int
    services: int
    held_s: float


async def _measure(rig: Rig) -> Measured:
    agents = rig.agents
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(embedded_etcd(rig.folder))
        state = certified(fleet(agents))
        create_key(rig.folder / "encryption.key")
        async with open_store(etcd) as store:
            await fill(store, state)
        addresses = Addresses.free(rig.folder, etcd.pid or 0)
        first = await stack.enter_async_context(AsyncExitStack())
        plane = await first.enter_async_context(running_controller(rig, addresses))
        hosts = [Host(node.id, node.number) for node in state.nodes.values()]
        authority = state.cluster.ca if rig.program == TLS else None
        began = time.monotonic()
        sims = await stack.enter_async_context(_simulators(plane, hosts, authority))
        await _until(lambda: sims.count("connected") == agents, "all agents connected")
        connected_s = time.monotonic() - began
        held = await _hold(plane, sims, agents, rig.held_s, connected_s)
        used_s = cpu_s(plane.pid)
        figures = await _receive(plane, sims, rig.services, agents * TASKS_OF_NODE)
        received_s = cpu_s(plane.pid) - used_s
        taken = await _take_in(plane, sims, agents * TASKS_OF_NODE)
        taken_s = cpu_s(plane.pid) - used_s - received_s
        await first.aclose()
        await _until(lambda: not sims.count("connected"), "all sessions ended")
        await stack.enter_async_context(running_controller(rig, addresses))
        began = time.monotonic()
        await _until(lambda: sims.count("connected") == agents, "all agents connected again")
        again_s = time.monotonic() - began
        return Measured([held, *figures, taken], held.value, received_s, taken_s, again_s)


def _costs(plain: Measured, secure: Measured) -> list[Figure]:
    """What TLS costs: processor time of the controller, and the time of a return."""
    pairs = (
        ("agents held", plain.held, secure.held, "% of a core"),
        ("tasks sent", plain.received_s, secure.received_s, "s"),
        ("status changes taken in", plain.taken_s, secure.taken_s, "s"),
    )
    figures = [
        Figure(
            f"TLS: more processor time of the controller, {name}",
            100 * (after / max(before, TICK) - 1),
            "%",
            12,
            note=f"{before:.2f} {unit} without TLS, {after:.2f} {unit} with it",
        )
        for name, before, after, unit in pairs
    ]
    before, after = plain.reconnected_s, secure.reconnected_s
    note = f"{before:.1f} s without TLS, {after:.1f} s with it"
    ratio = after / max(before, TICK)
    return [*figures, Figure("TLS: return of all agents to a new leader", ratio, "x", 2, note=note)]


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
    async with channel(plane.socket, None, aio=True) as connection:
        stub: control_pb2_grpc.ControlAsyncStub = control_pb2_grpc.ControlStub(connection)
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


class Addresses(NamedTuple):
    """Where every controller of a measurement serves."""

    socket: str
    api: str
    metrics: str
    etcd_pid: int

    @classmethod
    def free(cls, folder: Path, etcd_pid: int) -> "Addresses":
        """A socket in the folder, and free ports."""
        ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        return cls(f"unix:{folder}/api.sock", ports[0], ports[1], etcd_pid)


@asynccontextmanager
async def running_controller(rig: Rig, at: Addresses) -> AsyncIterator[Plane]:
    """The program with the etcd in the rig's folder, once it leads."""
    words = ["-m", rig.program, f"--state-dir={rig.folder}", f"--listen={at.socket}"]
    words += [f"--listen={at.api}", f"--metrics-addr={at.metrics}"]
    words += ["--health-addr=", "--log-level=warning", "--no-registry"]
    process = await asyncio.create_subprocess_exec(sys.executable, *words)
    plane = Plane(process.pid, *at)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while SESSIONS not in await scrape(at.metrics):
                if process.returncode is not None:
                    raise RuntimeError("the controller ended")
                await asyncio.sleep(0.05)
        yield plane
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def _simulators(
    plane: Plane, hosts: list[Host], authority: CertificateAuthority | None
) -> AsyncIterator[Simulators]:
    processes = []
    for index in range(SIMULATORS):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bench.control_agent"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        task = (plane.address, hosts[index::SIMULATORS], authority)
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        processes.append(process)
    sims = Simulators(processes)
    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(sims.listen(index)) for index in range(SIMULATORS)]
        try:
            yield sims
        finally:
            for listener in listening:
                listener.cancel()
            for process in processes:
                with suppress(ProcessLookupError):  # one that failed, which its listener says
                    process.kill()
                await process.wait()


async def _until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # there is no notification from other processes
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"timed out after {PATIENCE_S:g} s: {what}") from None
