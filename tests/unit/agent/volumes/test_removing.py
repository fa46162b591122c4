"""Copies are deleted when the controller requests it, once no container has them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.assignment import Assignment
from agent.outbox import Outbox
from agent.tasks.record import Record
from agent.volumes import removing
from agent.volumes.removing import Removals
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from tests.fixtures import build


def requesting(*volumes: str, full: bool = False) -> Assignment:
    return Assignment(
        full=full,
        revision=1,
        tasks=(),
        removed=(),
        overlays=(),
        removed_overlays=(),
        removed_volumes=volumes,
    )


class Host:
    def __init__(self) -> None:
        self.outbox = Outbox()
        self.records: dict[TaskId, Record] = {}
        self.ends: dict[TaskId, asyncio.Event] = {}
        self.removed: list[str] = []
        self.failures = 0
        self.removals = Removals(self._remove, self.outbox, lambda: self.records, self._ended)

    async def _remove(self, volume_id: str) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(16, "Device or resource busy")
        self.removed.append(volume_id)

    def _ended(self, task_id: TaskId) -> asyncio.Event:
        return self.ends.setdefault(task_id, asyncio.Event())

    def hold(self, name: str, volume_id: str) -> None:
        task_id = TaskId(name)
        self.records[task_id] = Record(
            task_id=task_id,
            service_id=ServiceId("db"),
            service_name="db",
            slot=1,
            node_id=NodeId("n1"),
            spec=build.template(),
            volumes={"data": volume_id},
        )

    def end(self, name: str) -> None:
        del self.records[TaskId(name)]
        self._ended(TaskId(name)).set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        work = asyncio.create_task(self.removals.run())
        yield
        work.cancel()
        await asyncio.wait([work])


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_copy_is_deleted_and_reported() -> None:
    host = Host()
    async with host.running():
        host.removals.assigned(requesting("v1", "v2"))
        await until(lambda: len(host.removed) == 2)
        assert host.outbox.take_removed_volumes() == ["v1", "v2"]
        assert host.outbox.take_removed_volumes() == []


async def test_nothing_is_deleted_that_was_not_requested() -> None:
    host = Host()
    async with host.running():
        host.removals.assigned(requesting(full=True))
        host.removals.assigned(requesting("v1"))
        await until(lambda: host.removed)
        assert host.removed == ["v1"]


async def test_a_container_keeps_its_copy_until_it_is_gone() -> None:
    host = Host()
    host.hold("t1", "v1")
    async with host.running():
        host.removals.assigned(requesting("v1", "v2"))
        await until(lambda: host.removed)
        assert host.removed == ["v2"]
        host.end("t1")
        await until(lambda: len(host.removed) == 2)


async def test_a_deletion_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "REMOVE_RETRY_S", (0.001,))
    host = Host()
    host.failures = 3
    async with host.running():
        host.removals.assigned(requesting("v1"))
        await until(lambda: host.removed)
        assert host.outbox.take_removed_volumes() == ["v1"]


async def test_the_next_session_is_answered_again() -> None:
    """A lost answer costs nothing: every full assignment requests what is left."""
    host = Host()
    async with host.running():
        for _ in range(2):
            host.removals.assigned(requesting("v1", full=True))
            await until(lambda: host.removed)
            await until(lambda: host.outbox.take_removed_volumes() == ["v1"])
            host.removed.clear()
