"""The worker and a task's registry login: no file has it, and a restarted agent pulls with it."""

import asyncio
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agent.images.base import Credentials, Image
from agent.images.fake import FakeRegistry
from agent.records import Records
from agent.tasks.record import Record
from pyswarm_core.docker.reference import Reference
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import IMAGE, NODE, Host, assigned, task

T1 = TaskId("t1")
LOGIN = RegistryLogin(registry="registry.test", username="ann-of-docker", password="hidden")


class HangingRegistry(FakeRegistry):
    """A registry that answers once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def fetch(self, ref: Reference, credentials: Credentials | None) -> Image:
        self.asked.set()
        await self.may_answer.wait()
        return await super().fetch(ref, credentials)


def files_with(directory: Path, secret: bytes) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if secret in path.read_bytes()]


async def test_an_agent_restarted_in_the_middle_of_a_pull_pulls_with_the_next_login(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.registry = registry = HangingRegistry()
    registry.push(IMAGE)
    registry.login = Credentials(username="ann-of-docker", password="hidden")
    mine = task()
    mine = replace(mine, template=replace(mine.template, login=LOGIN))
    async with host.worker() as worker:
        await worker.assign(assigned(mine), NODE)
        await registry.asked.wait()
        assert not files_with(tmp_path, b"hidden")
    registry.may_answer.set()
    async with host.worker() as worker:
        message = "waiting for the registry login of its service"
        await host.until(lambda seen: T1 in seen and seen[T1].detail.message == message)
        await worker.assign(assigned(mine), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        assert not files_with(tmp_path, b"hidden")
        assert worker.records[T1].durable == worker.records[T1]


def test_a_login_in_a_record_of_an_earlier_version_is_removed_from_its_file(
    tmp_path: Path,
) -> None:
    old = replace(task().record(NODE, 1), login=LOGIN)  # type: ignore[arg-type]
    records = Records(tmp_path / "tasks", tmp_path / "checks")
    (tmp_path / "tasks/t1.json").write_bytes(msgspec.json.encode(old) + b"\n")
    assert files_with(tmp_path, b"hidden")
    found: Record = records.load()[T1]
    assert found.login == LOGIN, "its pull goes on"
    assert not files_with(tmp_path, b"hidden")
