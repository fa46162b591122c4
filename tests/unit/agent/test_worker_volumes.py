"""One task of a slot at a time has its writable volumes."""

from pathlib import Path

from msgspec.structs import replace

from agent.assignment import AssignedTask
from agent.images.base import Credentials
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.unit.agent.test_worker import NODE, assigned, task
from tests.unit.agent.test_worker_layers import host_of

T1, T2 = TaskId("t1"), TaskId("t2")
RUNNING, SHUTDOWN = TaskState.RUNNING, TaskState.SHUTDOWN


def mounting(
    name: str, desired: TaskState = RUNNING, *, slot: int = 1, read_only: bool = False
) -> AssignedTask:
    plain = task(name, desired)
    spec = plain.template.spec
    mount = Mount(source="data", target="/data", read_only=read_only)
    container = replace(spec.container_spec, mounts=(mount,))
    spec = replace(spec, container_spec=container)
    template = replace(plain.template, spec=spec, volumes={"data": "v1"})
    return replace(plain, template=template, slot=slot)


async def test_a_task_waits_for_the_container_before_it_in_its_slot(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        await worker.assign(assigned(mounting("t1")), NODE)
        await host.reaches(T1, RUNNING)
        assert worker.records[T1].volumes == {"data": "v1"}
        await worker.assign(assigned(mounting("t1"), mounting("t2")), NODE)
        await host.reaches(T2, TaskState.PREPARING)
        assert "t2" not in [one.id for one in await host.runtime.found()]
        await worker.assign(assigned(mounting("t1", SHUTDOWN), mounting("t2")), NODE)
        await host.reaches(T2, RUNNING)
        assert [one.id for one in await host.runtime.found()] == ["t2"]


async def test_other_slots_and_readers_do_not_wait(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    async with host.worker() as worker:
        both = assigned(mounting("t1"), mounting("t2", slot=2))
        await worker.assign(both, NODE)
        for task_id in (T1, T2):
            await host.reaches(task_id, RUNNING)
        readers = (mounting("t3", read_only=True), mounting("t4", read_only=True))
        await worker.assign(assigned(mounting("t1"), mounting("t2", slot=2), *readers), NODE)
        for name in ("t3", "t4"):
            await host.reaches(TaskId(name), RUNNING)


async def test_an_image_that_is_mounted_is_pulled_with_the_login_and_kept(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    tools = host.registry.push("registry.test/tools:1")
    plain = task("t1")
    mount = Mount(type=MountType.IMAGE, source="registry.test/tools:1", target="/tools")
    container = replace(plain.template.spec.container_spec, mounts=(mount,))
    spec = replace(plain.template.spec, container_spec=container)
    login = Credentials(username="ann", password="secret")
    host.registry.login = login
    known = RegistryLogin(registry="registry.test", username="ann", password="secret")
    wanted = replace(plain, template=replace(plain.template, spec=spec, login=known))
    async with host.worker() as worker:
        await worker.assign(assigned(wanted), NODE)
        await host.reaches(T1, RUNNING)
        assert worker.records[T1].mounted_images == (tools.id,)
        assert tools.id in worker.images_in_use()
        await worker.assign(assigned(replace(wanted, desired_state=SHUTDOWN)), NODE)
        await host.reaches(T1, SHUTDOWN)
        await worker.ended(T1).wait()
        assert tools.id not in worker.images_in_use()
