"""The worker lets one task at a time have a container's layer, and deletes layers on request."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.assignment import AssignedTask, Assignment
from agent.layers import kept_addresses
from agent.runtime.base import ContainerConfig, RuntimeFailed
from agent.runtime.fake import Script
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.specs import ContainerMode, NetworkAttachment
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import IMAGE, NET, NODE, Host, assigned, task

T1, T2 = TaskId("t1"), TaskId("t2")
RUNNING, SHUTDOWN = TaskState.RUNNING, TaskState.SHUTDOWN


def container(
    name: str = "t1", desired: TaskState = RUNNING, mode: ContainerMode | None = None
) -> AssignedTask:
    plain = task(name, desired)
    template = replace(
        plain.template, service_id=ServiceId("db"), container=mode or ContainerMode()
    )
    return replace(plain, template=template)


def keeping(*tasks: AssignedTask, layers: tuple[str, ...] = ("db",)) -> Assignment:
    return replace(assigned(*tasks), kept_layers=frozenset(layers))


def host_of(path: Path) -> Host:
    host = Host(path)
    host.registry.push(IMAGE)
    return host


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def has_layers(host: Host, *layers: str) -> bool:
    return await host.runtime.layers() == layers


async def test_a_container_has_its_services_layer_and_its_name(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, RUNNING)
        assert (host.runtime.config("t1").layer, host.runtime.config("t1").volatile) == (
            "db",
            False,
        )
        assert worker.records[T1].name == "web"
        # As in Docker the container's id, which stays the same.
        assert host.runtime.config("t1").files["hostname"] == b"db\n"


async def test_a_container_that_runs_gets_another_name(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, RUNNING)
        renamed = container()
        template = replace(renamed.template, service_name="other")
        await worker.assign(keeping(replace(renamed, template=template)), NODE)
        assert (worker.records[T1].name, worker.records[T1].state) == ("other", RUNNING)
    async with host.worker() as worker:
        assert worker.records[T1].name == "other"


async def test_the_layer_of_one_that_removes_itself_may_be_lost_with_the_power(
    tmp_path: Path,
) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(keeping(container(mode=ContainerMode(auto_remove=True))), NODE)
        await host.reaches(T1, RUNNING)
        assert host.runtime.config("t1").volatile


async def test_the_next_task_waits_until_the_container_before_it_is_removed(
    tmp_path: Path,
) -> None:
    host = host_of(tmp_path)
    remove, released = host.runtime.remove, asyncio.Event()

    async def held(container_id: str, *, keep_logs: bool = True) -> None:
        await released.wait()
        await remove(container_id, keep_logs=keep_logs)

    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, RUNNING)
        host.runtime.remove = held  # type: ignore[method-assign]
        both = keeping(container(desired=SHUTDOWN), container("t2"))
        await worker.assign(both, NODE)
        await host.reaches(T1, SHUTDOWN)
        waits = "waiting for the container of task t1, which has its writable layer"
        await host.until(lambda seen: T2 in seen and seen[T2].detail.message == waits)
        assert [found.id for found in await host.runtime.found()] == ["t1"]
        released.set()
        await host.reaches(T2, RUNNING)
        assert [found.id for found in await host.runtime.found()] == ["t2"]


async def test_a_task_that_waits_for_the_layer_can_be_stopped(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(keeping(container(), container("t2")), NODE)
        await host.reaches(T1, RUNNING)
        await worker.assign(keeping(container(), container("t2", SHUTDOWN)), NODE)
        await host.reaches(T2, SHUTDOWN)
        assert host.seen[T1].state is RUNNING


async def test_tasks_of_a_service_do_not_wait_for_each_other(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(assigned(task("t1"), task("t2")), NODE)
        await host.reaches(T1, RUNNING)
        await host.reaches(T2, RUNNING)


async def test_a_half_made_container_of_a_killed_agent_is_removed_before_the_next_task(
    tmp_path: Path,
) -> None:
    host = host_of(tmp_path)
    create, made = host.runtime.create, asyncio.Event()

    async def hangs(config: ContainerConfig) -> int:
        pid = await create(config)
        made.set()
        await asyncio.Event().wait()
        return pid

    host.runtime.create = hangs  # type: ignore[method-assign]
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await made.wait()
    host.runtime.create = create  # type: ignore[method-assign]
    remove, removed = host.runtime.remove, list[str]()

    async def slow(container_id: str, *, keep_logs: bool = True) -> None:
        await asyncio.sleep(0.05)
        await remove(container_id, keep_logs=keep_logs)
        removed.append(container_id)

    host.runtime.remove = slow  # type: ignore[method-assign]
    async with host.worker() as worker:
        await worker.assign(keeping(container(desired=SHUTDOWN), container("t2")), NODE)
        await host.reaches(T2, RUNNING)
        assert removed[0] == "t1"


async def test_a_layer_goes_when_a_full_assignment_does_not_name_it(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    host.runtime.layer_files = {"old": set(), "db": set()}
    async with host.worker() as worker:
        await worker.assign(keeping(), NODE)
        await until(lambda: has_layers(host, "db"))


async def test_a_layer_goes_when_a_change_removes_it_once_its_container_is_gone(
    tmp_path: Path,
) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, RUNNING)
        change = replace(assigned(full=False), removed_layers=("db",))
        await worker.assign(change, NODE)
        assert await has_layers(host, "db")
        await worker.assign(replace(assigned(full=False), removed=(T1,)), NODE)
        await until(lambda: has_layers(host))


@pytest.mark.parametrize("full", [True, False])
async def test_a_layer_stays_without_a_task(tmp_path: Path, full: bool) -> None:
    """A controller before protocol 7 names no layers, and removes none."""
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, RUNNING)
        await worker.assign(replace(assigned(full=full), removed=(T1,)), NODE)
        await until(lambda: _is_gone(worker.records))
        assert await has_layers(host, "db")


async def _is_gone(records: object) -> bool:
    return not records


async def test_tasks_that_are_assigned_again_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """What they had was gone with their records."""
    host = host_of(tmp_path)
    async with host.worker() as worker:
        for name in (T1, T2):
            await worker.assign(keeping(container(name)), NODE)
            await host.reaches(name, RUNNING)
            await worker.assign(keeping(), NODE)
            await until(lambda: _is_gone(worker.records))
        await worker.assign(keeping(container(T1), container(T2)), NODE)
        async with asyncio.timeout(60):
            await host.reaches(T1, RUNNING)


async def test_a_layer_that_cannot_be_deleted_is_tried_again(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    host.runtime.layer_files = {"old": set()}
    remove_layer, attempts = host.runtime.remove_layer, list[str]()

    async def fails_once(layer: str) -> None:
        attempts.append(layer)
        if len(attempts) == 1:
            raise RuntimeFailed("it is in use")
        await remove_layer(layer)

    host.runtime.remove_layer = fails_once  # type: ignore[method-assign]
    async with host.worker() as worker:
        for _ in range(2):
            await worker.assign(keeping(), NODE)
        await until(lambda: has_layers(host))
    assert attempts == ["old", "old"]


async def test_a_container_that_could_not_be_made_holds_no_layer(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    host.runtime.scripts["t1"] = Script(fails_create="exec format error")
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, TaskState.REJECTED)
        await worker.assign(keeping(container(), container("t2")), NODE)
        await host.reaches(T2, RUNNING)


async def test_the_image_of_a_container_that_ended_stays_in_use(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    host.runtime.scripts["t1"] = Script(exits_after_s=0)
    host.runtime.scripts["t2"] = Script(exits_after_s=0)
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, TaskState.COMPLETE)
        await worker.ended(T1).wait()
        assert worker.images_in_use() == {worker.records[T1].image_id}
        await worker.assign(keeping(task("t2")), NODE)
        await host.reaches(T2, TaskState.COMPLETE)
        await worker.ended(T2).wait()
        assert worker.images_in_use() == set()


async def test_a_host_whose_layers_cannot_be_listed_runs_its_tasks(tmp_path: Path) -> None:
    host = host_of(tmp_path)

    async def fails() -> tuple[str, ...]:
        raise OSError(5, "Input/output error")

    host.runtime.layers = fails  # type: ignore[method-assign]
    async with host.worker() as worker:
        await worker.assign(keeping(container()), NODE)
        await host.reaches(T1, RUNNING)


async def test_a_stopped_container_keeps_the_address_that_was_chosen_for_it(
    tmp_path: Path,
) -> None:
    def chosen(desired: TaskState) -> AssignedTask:
        made = container(desired=desired)
        joined = NetworkAttachment(target=NET, task_ip="10.128.0.9")
        spec = replace(made.template.spec, networks=(joined,))
        return replace(made, template=replace(made.template, spec=spec))

    host, kept = host_of(tmp_path), [(NET, "10.128.0.9")]
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        for state in (RUNNING, SHUTDOWN):
            await worker.assign(keeping(chosen(state)), NODE)
            await host.reaches(T1, state)
            assert kept_addresses(worker.records.values()) == kept
    async with host.worker() as worker:
        assert kept_addresses(worker.records.values()) == kept
        await worker.assign(keeping(layers=()), NODE)
        await until(lambda: has_layers(host))
        assert kept_addresses(worker.records.values()) == []
