"""The worker when something fails: signals, starts, agents and hosts; every stopped task ends."""

import asyncio
import errno
import os
import shutil
from pathlib import Path
from signal import SIGRTMIN, SIGTERM

import pytest

from agent import worker as worker_module
from agent.fitness import FAILURES_MAX
from agent.images.base import ImageConfig
from agent.network.base import Fault, NetworkFailed
from agent.overlays import overlays
from agent.runtime.base import ContainerConfig, HostFailed, RuntimeFailed
from agent.runtime.fake import FakeRuntime, Script
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import PortConfig
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import IMAGE, NODE, Host, assigned, host_port, task


async def test_a_task_found_to_listen_while_it_is_stopped_is_killed_all_the_same(
    tmp_path: Path,
) -> None:
    class Signalled(FakeRuntime):
        async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
            await super().kill(container_id, signal, everyone=everyone)
            signalled.set()

    class Slow(Host):
        async def _listening(self, record: Record) -> bool:
            looking.set()
            await signalled.wait()
            return True

    looking, signalled = asyncio.Event(), asyncio.Event()
    host = Slow(tmp_path)
    host.runtime = Signalled()
    host.registry.push(IMAGE)
    host.runtime.scripts["t1"] = Script(ignores=frozenset({15}))
    published = (PortConfig(target_port=80, published_port=8080),)
    async with host.worker() as worker:
        await worker.assign(assigned(task(ports=published)), NODE)
        await looking.wait()
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN, ports=published)), NODE)
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)


async def test_a_signal_that_cannot_be_sent_is_sent_again_and_ends_no_agent(tmp_path: Path) -> None:
    class Failing(FakeRuntime):
        failures = 2

        async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "too many open files")
            await super().kill(container_id, signal, everyone=everyone)

    host = Host(tmp_path)
    host.runtime = Failing()
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)
        assert host.runtime.signals == [("t1", 9)]


async def test_a_deadline_outlives_the_agent_that_set_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    host.runtime.scripts["t1"] = Script(ignores=frozenset({15}))
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
    async with host.worker():
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)


async def test_a_task_stopped_while_its_start_hangs_is_killed_by_whichever_agent(
    tmp_path: Path,
) -> None:
    class Hanging(FakeRuntime):
        async def start(self, container_id: str) -> None:
            await asyncio.Event().wait()

    host = Host(tmp_path)
    host.runtime = Hanging()
    host.registry.push(IMAGE)
    t1, t2 = TaskId("t1"), TaskId("t2")
    async with host.worker() as worker:
        await worker.assign(assigned(task(), task("t2")), NODE)
        await host.until(lambda seen: worker.records[t1].state is TaskState.STARTING)
        await host.until(lambda seen: worker.records[t2].state is TaskState.STARTING)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN), full=False), NODE)
        await host.reaches(t1, TaskState.SHUTDOWN)
        await worker.assign(assigned(task("t2", TaskState.SHUTDOWN), full=False), NODE)
    async with host.worker():
        await host.reaches(t2, TaskState.SHUTDOWN)


async def test_a_host_that_fails_its_tasks_in_a_row_says_so_until_one_succeeds(
    tmp_path: Path,
) -> None:
    class Full(FakeRuntime):
        full = True

        async def create(self, config: ContainerConfig) -> int:
            if self.full:
                raise HostFailed("no space left on device: /run/x (0 of 200 inodes are free)")
            return await super().create(config)

    host = Host(tmp_path)
    host.runtime = runtime = Full()
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        for number in range(FAILURES_MAX):
            assert worker.unable == ""
            await worker.assign(assigned(task(f"t{number}"), full=False), NODE)
            status = await host.reaches(TaskId(f"t{number}"), TaskState.REJECTED)
            assert "0 of 200 inodes are free" in status.detail.error
        assert "0 of 200 inodes are free" in worker.unable
        runtime.full = False
        await worker.assign(assigned(task("last"), full=False), NODE)
        await host.reaches(TaskId("last"), TaskState.RUNNING)
        assert worker.unable == ""


@pytest.mark.parametrize(
    ("user", "ended"),
    [("", TaskState.FAILED), ("no space left on device", TaskState.REJECTED)],
)
async def test_no_text_of_a_users_keeps_tasks_away_from_a_host(
    tmp_path: Path, user: str, ended: TaskState
) -> None:
    class Refusing(FakeRuntime):
        async def start(self, container_id: str) -> None:
            raise RuntimeFailed('exec: "/no space left on device": no such file or directory')

    host = Host(tmp_path)
    host.runtime = Refusing()
    host.registry.push(IMAGE, ImageConfig(user=user))
    async with host.worker() as worker:
        for number in range(FAILURES_MAX):
            await worker.assign(assigned(task(f"t{number}"), full=False), NODE)
            status = await host.reaches(TaskId(f"t{number}"), ended)
            assert "no space left on device" in status.detail.error
        assert worker.unable == ""


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGRTMIN+3", SIGRTMIN + 3), ("2", 2), ("²", SIGTERM), ("99", SIGTERM), ("SIG_IGN", SIGTERM)],
)
async def test_an_image_may_name_any_stop_signal(tmp_path: Path, name: str, number: int) -> None:
    host = Host(tmp_path)
    host.runtime = FakeRuntime()
    host.registry.push(IMAGE, ImageConfig(stop_signal=name))
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)
    assert host.runtime.signals[0] == ("t1", number)


async def test_no_name_of_a_file_ends_the_agent(tmp_path: Path) -> None:
    class Refusing(FakeRuntime):
        async def start(self, container_id: str) -> None:
            raise FileNotFoundError(errno.ENOENT, "No such file", os.fsdecode(b"/no\xff"))

    host = Host(tmp_path)
    host.runtime = Refusing()
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.FAILED)
        assert status.detail.error == r"no such file: /no\udcff"


async def test_a_record_that_cannot_be_written_names_the_cause(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        shutil.rmtree(tmp_path / "tasks")
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.REJECTED)
        assert f"no such file or directory: {tmp_path}/tasks/t1.json" in status.detail.error


async def test_a_task_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    host.runtime.scripts["t1"] = Script(ignores=frozenset({15}))
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)
        assert status.detail.exit_code == 137


async def test_an_adopted_task_that_ends_before_its_network_is_repaired_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object, **__: object) -> tuple[Fault, ...]:
        raise NetworkFailed("the kernel refuses")

    monkeypatch.setattr(overlays, "RETRY_S", 0.01)
    monkeypatch.setattr(worker_module, "WITHDRAW_MAX_S", 0.01)
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    t1, ports = TaskId("t1"), (host_port(53),)
    async with host.worker() as worker:
        await worker.assign(assigned(task(ports=ports)), NODE)
        await host.until(lambda seen: t1 in seen and seen[t1].detail.serving)
        await host.overlays.settled()
    sync = host.dataplane.sync
    monkeypatch.setattr(host.dataplane, "sync", refuses)
    async with host.worker() as worker, asyncio.timeout(60):
        await worker.assign(assigned(), NODE)
        await host.reaches(t1, TaskState.SHUTDOWN)
        await worker.ended(t1).wait()
        monkeypatch.setattr(host.dataplane, "sync", sync)
        await host.overlays.settled()
        for _ in range(100):
            await asyncio.sleep(0)
        assert await host.overlays.found() == set()
        assert host.resolvers.open_for == {}
