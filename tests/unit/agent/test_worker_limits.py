"""The worker changes the limits of running containers, and keeps what it did."""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from agent.assignment import AssignedTask
from agent.network.base import Bandwidth, NetworkFailed
from agent.runtime.base import CgroupLimits, NotRunning, RuntimeFailed
from agent.tasks.record import InPlaceChange
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import Limits, Resources
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import IMAGE, NODE, Host, assigned, task


def with_limits(version: int, memory: int) -> AssignedTask:
    plain = task()
    limits = InPlaceChange(version, Resources(limits=Limits(memory_bytes=memory)))
    return replace(plain, template=replace(plain.template, in_place_change=limits))


async def test_limits_change_in_the_running_container_and_a_restarted_worker_knows_them(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        pid = (await host.reaches(TaskId("t1"), TaskState.RUNNING)).detail.pid
        await worker.assign(assigned(with_limits(2, 64)), NODE)
        await host.until(lambda seen: seen[TaskId("t1")].detail.in_place_version == 2)
        await worker.assign(assigned(with_limits(3, 32)), NODE)
        await host.until(lambda seen: seen[TaskId("t1")].detail.in_place_version == 3)
    assert host.runtime.limits("t1").memory_bytes == 32
    async with host.worker() as worker:
        await worker.assign(assigned(with_limits(3, 32)), NODE)
        (status,) = worker.report()
        detail = status.detail
        assert (detail.pid, detail.in_place_version, detail.in_place_error) == (pid, 3, "")
        limits = worker.records[TaskId("t1")].spec.resources.limits
        assert limits.memory_bytes == 32


async def test_a_runtime_that_refuses_limits_is_quoted(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)

    async def refuse(container_id: str, limits: CgroupLimits) -> None:
        raise RuntimeFailed("cannot change the memory limit to 64B: 80MiB are in use")

    host.runtime.update = refuse  # type: ignore[method-assign]
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(with_limits(2, 64)), NODE)
        await host.until(lambda seen: seen[TaskId("t1")].detail.in_place_version == 2)
        assert host.seen[TaskId("t1")].detail.in_place_error.endswith("80MiB are in use")
        assert host.seen[TaskId("t1")].state is TaskState.RUNNING


async def test_limits_of_a_process_that_has_just_ended_are_not_refused(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    asked = asyncio.Event()

    async def refuse(container_id: str, limits: CgroupLimits) -> None:
        asked.set()
        raise NotRunning("cannot update container t1: it is not running")

    host.runtime.update = refuse  # type: ignore[method-assign]
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(with_limits(2, 64)), NODE)
        await asked.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        (status,) = worker.report()
        assert (status.detail.in_place_version, status.detail.in_place_error) == (0, "")


async def test_interfaces_have_their_bandwidth_and_change_it_with_the_other_limits(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    limits = [Limits(net_egress=8_000_000), Limits(net_egress=9_000_000, net_ingress=1_000_000)]
    plain = task()
    spec = replace(plain.template.spec, resources=Resources(limits=limits[0]))
    first = replace(plain, template=replace(plain.template, spec=spec))
    new = InPlaceChange(2, Resources(limits=limits[1]))
    second = replace(first, template=replace(first.template, in_place_change=new))
    async with host.worker() as worker:
        await worker.assign(assigned(first), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        (plug,) = host.dataplane.overlay.plugs()
        assert plug.bandwidth == Bandwidth(egress=8_000_000)
        await worker.assign(assigned(second), NODE)
        await host.until(lambda seen: seen[TaskId("t1")].detail.in_place_version == 2)
    async with host.worker() as worker:
        await worker.assign(assigned(second), NODE)
        (plug,) = host.dataplane.overlay.plugs()
        assert plug.bandwidth == Bandwidth(egress=9_000_000, ingress=1_000_000)


async def test_limits_whose_bandwidth_is_refused_are_undone(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    real = host.runtime.update, host.dataplane.limit
    undone: list[str] = []

    async def refuse_bandwidth(task_id: TaskId, bandwidth: Bandwidth) -> None:
        raise NetworkFailed("the kernel refused")

    async def refuse_undo(container_id: str, limits: CgroupLimits) -> None:
        if limits.memory_bytes != 64:
            undone.append(container_id)
            raise RuntimeFailed("80MiB are in use")
        await real[0](container_id, limits)

    async with host.worker() as worker:

        async def acknowledged(version: int, memory: int) -> int:
            """The memory limit in the kernel after a change to this one."""
            await worker.assign(assigned(with_limits(version, memory)), NODE)
            await host.until(lambda seen: seen[TaskId("t1")].detail.in_place_version == version)
            return host.runtime.limits("t1").memory_bytes

        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        assert await acknowledged(2, 32) == 32
        host.dataplane.limit = refuse_bandwidth  # type: ignore[method-assign]
        assert await acknowledged(3, 64) == 32
        assert host.seen[TaskId("t1")].detail.in_place_error == "the kernel refused"
        host.runtime.update = refuse_undo  # type: ignore[method-assign]
        assert await acknowledged(4, 64) == 64
        assert undone == ["t1"]
        host.runtime.update, host.dataplane.limit = real  # type: ignore[method-assign]
        assert await acknowledged(5, 32) == 32, "the record had it already"
        assert host.seen[TaskId("t1")].detail.in_place_error == ""
