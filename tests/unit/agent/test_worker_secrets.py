"""The worker puts new versions of secrets into running containers, and keeps what it did."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.assignment import AssignedTask
from agent.runtime.base import RuntimeFailed
from agent.secrets.fake import FakeSecrets
from agent.tasks.record import InPlaceChange, Record
from pyswarm_core.ids import TaskId
from pyswarm_core.payloads import syntax
from pyswarm_core.specs import Resources
from pyswarm_core.states import TaskState
from pyswarm_core.templates.context import Context
from tests.unit.agent.test_worker import IMAGE, NODE, Host, assigned, task

T1 = TaskId("t1")


def using(version: int, signal: str = "HUP") -> AssignedTask:
    """The task with version 1 of a secret; a later version is put into its container."""
    plain, first = task(), syntax.secret("db").at("v1", 1)
    container = replace(plain.template.spec.container_spec, secrets=(first,))
    spec = replace(plain.template.spec, container_spec=container)
    change = None
    if version > 1:
        new = first.reloaded(f"v{version}", version, signal)
        change = InPlaceChange(version, Resources(), secrets=(new,), configs=())
        spec = change.with_references(spec)
    return replace(plain, template=replace(plain.template, spec=spec, in_place_change=change))


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from agent.runtime.fake import FakeRuntime

    sent: list[int] = []
    real = FakeRuntime.kill

    async def kill(
        self: FakeRuntime, container_id: str, signal: int, *, everyone: bool = False
    ) -> None:
        sent.append(signal)
        if signal != 1:
            await real(self, container_id, signal, everyone=everyone)

    monkeypatch.setattr(FakeRuntime, "kill", kill)
    return sent


async def test_the_program_gets_the_signal_and_the_record_the_version(
    tmp_path: Path, signals: list[int]
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(using(1)), NODE)
        pid = (await host.reaches(T1, TaskState.RUNNING)).detail.pid
        await worker.assign(assigned(using(2)), NODE)
        await host.until(lambda seen: seen[T1].detail.in_place_version == 2)
        assert signals == [1]
        (reference,) = worker.records[T1].spec.container_spec.secrets
        assert (reference.id, host.seen[T1].detail.pid) == ("v2", pid)
        await worker.assign(assigned(using(3, "none")), NODE)
        await host.until(lambda seen: seen[T1].detail.in_place_version == 3)
    assert signals == [1]


async def test_an_agent_killed_before_its_record_has_the_version_sends_the_signal_again(
    tmp_path: Path, signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    begun = asyncio.Event()
    real = FakeSecrets.swap

    async def hang(self: FakeSecrets, record: Record, context: Context, report: object) -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    async with host.worker() as worker:
        await worker.assign(assigned(using(1)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        monkeypatch.setattr(FakeSecrets, "swap", hang)
        await worker.assign(assigned(using(2)), NODE)
        await begun.wait()
    monkeypatch.setattr(FakeSecrets, "swap", real)
    async with host.worker():
        await host.until(lambda seen: seen[T1].detail.in_place_version == 2)
    assert signals == [1]


async def test_a_refused_swap_is_reported_and_the_task_runs_on(
    tmp_path: Path, signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)

    async def refuse(self: FakeSecrets, record: Record, context: Context, report: object) -> bool:
        raise RuntimeFailed("cannot replace its secrets and configs: the tmpfs is full")

    monkeypatch.setattr(FakeSecrets, "swap", refuse)
    async with host.worker() as worker:
        await worker.assign(assigned(using(1)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await worker.assign(assigned(using(2)), NODE)
        await host.until(lambda seen: seen[T1].detail.in_place_version == 2)
        assert host.seen[T1].detail.in_place_error.endswith("the tmpfs is full")
        assert host.seen[T1].state is TaskState.RUNNING
        (reference,) = worker.records[T1].spec.container_spec.secrets
        assert reference.id == "v1"
    assert signals == []
