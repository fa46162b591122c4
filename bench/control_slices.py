"""The longest slice of a leader's event loop, with a million tasks on ten thousand nodes. SHELL.

The load is that of users, nodes and the leader: services are created, placed and saved, tasks run,
hosts are drained, a service that fits nowhere waits, everything is listed and watched, a new leader
loads the state. Garbage collection is configured as in a leader: young generations only.
"""

import asyncio
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from bench.control_rig import embedded_etcd, fill, fleet, leader, open_store, service_spec
from bench.report import Figure
from bench.slices import Longest, measured
from controller.api.changes.nodes import update_node
from controller.api.changes.services import create_service
from controller.identity.caller import ANONYMOUS
from controller.leader.loop import Loop
from controller.store.embedded import EmbeddedEtcd
from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1.control_pb2_grpc import ControlStub
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.objects import Node, Service, TaskDetail, TaskStatus
from pyswarm_core.specs import NodeSpec, ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import Availability, TaskState

BOUND_MS = 50.0
YOUNG = 1
"""The oldest generation that a leader collects (`controller.leader.garbage`)."""
SHOWN = 4
WATCHERS = 100
WAITING = 4_000
"""Replicas that fit on no node."""
REPORTED = 100_000
"""Tasks whose agents report them as running."""
REQUESTS_AT_ONCE = 100


def measure(quick: bool) -> Iterator[Figure]:
    """1,000 services of 1,000 replicas on 10,000 nodes."""
    nodes, services, replicas = (50, 10, 50) if quick else (10_000, 1_000, 1_000)
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        yield from asyncio.run(_measure(Path(folder), nodes, services, replicas))


async def _measure(folder: Path, nodes: int, services: int, replicas: int) -> list[Figure]:
    found = dict[str, Longest]()
    async with embedded_etcd(folder) as etcd:
        async with open_store(etcd) as store:
            await fill(store, fleet(nodes))
        await _lead(etcd, folder, found, services, replicas)
        with measured(found.setdefault("loaded", Longest())):
            async with leader(etcd, folder):
                pass
    return [_figure(phase, longest, services * replicas) for phase, longest in found.items()]


async def _lead(
    etcd: EmbeddedEtcd, folder: Path, found: dict[str, Longest], services: int, replicas: int
) -> None:
    async with leader(etcd, folder) as loop:
        for phase, work in (
            ("decided and saved", partial(_fill_up, loop, services, replicas)),
            ("reported", partial(_report, loop)),
            ("asked", partial(_ask, loop, folder)),
            ("moved off drained hosts", partial(_drain, loop, len(loop.state.nodes) // 100)),
            ("garbage", _collect),
        ):
            with measured(found.setdefault(phase, Longest())):
                await work()


def _figure(phase: str, longest: Longest, tasks: int) -> Figure:
    top = longest.top(SHOWN)
    note = ", ".join(f"{name} {1000 * took_s:.0f}" for name, took_s in top)
    worst_ms = 1000 * top[0][1] if top else 0.0
    return Figure(
        f"longest slice, {tasks:,} tasks {phase}",
        worst_ms,
        "ms",
        BOUND_MS,
        note=f"thread processor time; {note}",
    )


async def _fill_up(loop: Loop, services: int, replicas: int) -> None:
    specs = [service_spec(index, replicas) for index in range(services)]
    for first in range(0, services, REQUESTS_AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for spec in specs[first : first + REQUESTS_AT_ONCE]:
                group.create_task(loop.submit(partial(_creation, spec), ANONYMOUS))
    while loop.state.tasks_in_state[TaskState.ASSIGNED] < services * replicas:
        await _pause(loop)
    await loop.wait_saved()


def _creation(
    spec: ServiceSpec, state: State, now: Instant, ids: IdSource
) -> tuple[Writes, Service]:
    return create_service(state, spec, (), now, ids)


async def _report(loop: Loop) -> None:
    """Reports as sessions deliver them: the tasks of a node at a time."""
    left = REPORTED
    for node_id in list(loop.state.nodes):
        tasks = loop.state.tasks_of_node(node_id)
        loop.intake(node_id, [TaskStatus(i, TaskState.RUNNING, TaskDetail()) for i in tasks])
        left -= len(tasks)
        await asyncio.sleep(0)
        if left <= 0:
            break
    while loop.queue_depths["unsaved"]:
        await _pause(loop)


async def _ask(loop: Loop, folder: Path) -> None:
    heavy = service_spec(999_999, WAITING)
    template = heavy.task_template
    reservations = template.resources.reservations
    huge = replace(reservations, memory_bytes=1 << 48)
    template = replace(template, resources=replace(template.resources, reservations=huge))
    await loop.submit(partial(_creation, replace(heavy, task_template=template)), ANONYMOUS)
    words = (sys.executable, "-m", "bench.control_slices", f"unix:{folder}/api.sock")
    users = await asyncio.create_subprocess_exec(*words)
    assert await users.wait() == 0


def _be_users(address: str) -> None:
    """All queries of users at once, in a process that is not measured."""
    calls: list[Callable[[ControlStub], object]] = [
        lambda stub: stub.GetInfo(pb.GetInfoRequest()),
        lambda stub: list(stub.ListServices(pb.ListRequest())),
        lambda stub: list(stub.ListNodes(pb.ListRequest())),
        lambda stub: list(stub.ListTasks(pb.ListTasksRequest(services=["service1"]))),
        lambda stub: list(stub.ListTasks(pb.ListTasksRequest(filters=["desired-state=shutdown"]))),
        lambda stub: stub.Why(pb.RefRequest(ref="service999999")),
        lambda stub: stub.Why(pb.RefRequest(ref="service1")),
        lambda stub: list(stub.Events(pb.EventsRequest())),
        *([_watch] * WATCHERS),
    ]
    with channel(address, None, aio=False) as connection, ThreadPoolExecutor(len(calls)) as pool:
        stub = ControlStub(connection)
        for answer in [pool.submit(call, stub) for call in calls]:
            answer.result()


def _watch(stub: ControlStub) -> None:
    request = pb.WatchServiceRequest(ref="service2", follow=True)
    call = stub.WatchService(request)
    next(iter(call))
    call.cancel()  # type: ignore[no-untyped-call]


async def _drain(loop: Loop, count: int) -> None:
    drained = list(islice(loop.state.nodes.values(), count))
    async with asyncio.TaskGroup() as group:
        for node in drained:
            spec = replace(node.spec, availability=Availability.DRAIN)
            group.create_task(loop.submit(partial(_update, node, spec), ANONYMOUS))
    await asyncio.sleep(0.5)
    while any(loop.queue_depths.values()):
        await _pause(loop)


async def _pause(loop: Loop) -> None:
    """Wait for a condition. Raises Unavailable if the term has ended."""
    await asyncio.sleep(0.1)
    await loop.wait_saved()


def _update(
    node: Node, spec: NodeSpec, state: State, now: Instant, ids: IdSource
) -> tuple[Writes, Node]:
    return update_node(state, node.id, node.version, spec, now)


async def _collect() -> None:
    gc.collect(YOUNG)


if __name__ == "__main__":
    _be_users(sys.argv[1])
