"""What stays of a change of a running container that is refused: in the kernel and the record."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from agent.assignment import AssignedTask
from agent.network.base import Attachment, Bandwidth, NetworkFailed
from agent.worker import Worker
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.specs import Limits, Resources
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import NET, NODE
from tests.unit.agent.test_worker_networks import OTHER, T1, T2, Networked, assigned, held, on


def limited(wanted: AssignedTask, memory: int, egress: int = 0) -> AssignedTask:
    new = wanted.template.in_place_change
    assert new is not None
    new = replace(new, resources=Resources(limits=Limits(memory_bytes=memory, net_egress=egress)))
    return replace(wanted, template=replace(wanted.template, in_place_change=new))


async def restored(worker: Worker) -> None:
    """Return once the record of the task names one interface."""
    async with asyncio.timeout(60):
        while len(worker.records[T1].held) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)


class Refusing(Networked):
    """Its kernel makes the second interface, then fails; until `mends` also every undo fails."""

    mends = False
    fails = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._attach = self.dataplane.attach
        self.dataplane.attach = self._refuse  # type: ignore[method-assign]

    async def _refuse(
        self, task_id: TaskId, attachments: Sequence[Attachment], gone: Sequence[NetworkId] = ()
    ) -> str:
        made = {one.network_id for one in attachments}
        if task_id == T1 and self.fails and OTHER in made:
            await self._attach(task_id, attachments, gone)
            raise NetworkFailed("the kernel refused")
        if task_id == T1 and OTHER in gone and not self.mends:
            raise NetworkFailed("the kernel does not undo it")
        return await self._attach(task_id, attachments, gone)


async def test_limits_beside_a_refused_network_stay_and_can_be_taken_back(tmp_path: Path) -> None:
    host = Refusing(tmp_path)
    host.mends = True
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await worker.assign(assigned(limited(on(2, NET, OTHER), 64, 8_000_000)), NODE)
        detail = await host.acknowledged(2)
        assert detail.networks_refused
        assert host.runtime.limits("t1").memory_bytes == 64
        (plug,) = host.dataplane.overlay.tasks[T1]
        assert plug.bandwidth == Bandwidth(egress=8_000_000)
        assert worker.records[T1].spec.resources.limits.memory_bytes == 64
        await worker.assign(assigned(limited(on(3, NET), 0)), NODE)
        await host.acknowledged(3)
        assert host.runtime.limits("t1").memory_bytes == 0
        (plug,) = host.dataplane.overlay.tasks[T1]
        assert plug.bandwidth == Bandwidth()


async def test_an_interface_that_could_not_be_undone_keeps_its_address(tmp_path: Path) -> None:
    host = Refusing(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        detail = await host.acknowledged(2)
        assert (detail.networks_refused, held(detail)) == (True, {NET: "10.128.0.2"})
        assert host.interfaces() == {"eth0": "10.128.0.2", "eth1": "10.129.0.2"}
        assert [one.address for one in worker.records[T1].held] == ["10.128.0.2", "10.129.0.2"]
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET), on(1, OTHER, name="t2")), NODE)
        status = await host.reaches(T2, TaskState.RUNNING)
        assert held(status.detail) == {OTHER: "10.129.0.3"}, "the former one is in the kernel"
    host.mends = True
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await restored(worker)
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        host.fails = False
        taken = on(3, NET, OTHER, net2="10.129.0.2")
        await worker.assign(assigned(taken, on(1, OTHER, name="t2")), NODE)
        assert held(await host.acknowledged(3))[OTHER] == "10.129.0.2", "it was released"


async def test_the_next_change_removes_what_could_not_be_undone(tmp_path: Path) -> None:
    host = Refusing(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        await host.acknowledged(2)
        host.mends = True
        await worker.assign(assigned(on(3, NET)), NODE)
        assert held(await host.acknowledged(3)) == {NET: "10.128.0.2"}
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        assert [one.network_id for one in worker.records[T1].held] == [NET]


async def test_a_change_that_was_begun_and_has_no_address_any_more_is_undone(
    tmp_path: Path,
) -> None:
    host = Refusing(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        await host.acknowledged(2)
        assert len(host.interfaces()) == 2
        host.mends = True
        await worker.assign(assigned(on(3, NET, OTHER, net2="10.200.0.1")), NODE)
        detail = await host.acknowledged(3)
        assert "in none of this node's blocks" in detail.in_place_error
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        assert [one.network_id for one in worker.records[T1].held] == [NET]


async def test_the_record_names_another_address_before_the_kernel_has_it(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    real = host.dataplane.attach

    async def refuse(
        task_id: TaskId, attachments: Sequence[Attachment], gone: Sequence[NetworkId] = ()
    ) -> str:
        if task_id == T1:
            raise NetworkFailed("the kernel refused")
        return await real(task_id, attachments, gone)

    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        host.dataplane.attach = refuse  # type: ignore[method-assign]
        await worker.assign(assigned(on(2, NET, net1="10.128.0.9")), NODE)
        await host.acknowledged(2)
        named = {one.address for one in worker.records[T1].held}
        assert named == {"10.128.0.2", "10.128.0.9"}
    host.dataplane.attach = real  # type: ignore[method-assign]
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await restored(worker)
        assert host.interfaces() == {"eth0": "10.128.0.2"}
