"""The worker changes the networks of running containers, and finds what it began."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from agent.assignment import AssignedTask, Assignment
from agent.network.base import Attachment, DesiredOverlay, NetworkFailed
from agent.tasks.record import InPlaceChange
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress, TaskDetail
from pyswarm_core.specs import NetworkAttachment, Resources
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import IMAGE, NET, NODE, OVERLAY, Host, task

T1, T2 = TaskId("t1"), TaskId("t2")
OTHER = NetworkId("net2")
SECOND = replace(
    OVERLAY,
    network_id=OTHER,
    name="other",
    subnet="10.129.0.0/16",
    local_blocks=("10.129.0.0/26",),
    vni=4097,
)


def assigned(
    *tasks: AssignedTask, overlays: Sequence[DesiredOverlay] = (OVERLAY, SECOND)
) -> Assignment:
    return Assignment(True, 1, tasks, (), tuple(overlays), ())


def on(version: int, *targets: str, name: str = "t1", **ips: str) -> AssignedTask:
    """A container's task that is to join these networks while it runs; version 1: from its
    beginning.
    """
    plain = task(name)
    networks = tuple(NetworkAttachment(target=t, task_ip=ips.get(t, "")) for t in targets)
    spec = replace(plain.template.spec, networks=networks)
    new = InPlaceChange(version, Resources(), networks) if version > 1 else None
    return replace(plain, template=replace(plain.template, spec=spec, in_place_change=new))


class Networked(Host):
    """A host with the two networks."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.registry.push(IMAGE)
        self._attach = self.dataplane.attach

    def hang(self, *, made: bool = True) -> asyncio.Event:
        """From now on attaching does not return, as in an agent that is killed then. `made`: the
        kernel has the interfaces by then. The event: it has begun.
        """
        begun = asyncio.Event()

        async def attach(
            task_id: TaskId, attachments: Sequence[Attachment], gone: Sequence[NetworkId] = ()
        ) -> str:
            path = await self._attach(task_id, attachments, gone) if made else ""
            begun.set()
            await asyncio.Event().wait()
            return path

        self.dataplane.attach = attach  # type: ignore[method-assign]
        return begun

    def go_on(self) -> None:
        """Attaching returns again."""
        self.dataplane.attach = self._attach  # type: ignore[method-assign]

    async def acknowledged(self, version: int) -> TaskDetail:
        await self.until(lambda seen: T1 in seen and seen[T1].detail.in_place_version == version)
        return self.seen[T1].detail

    def interfaces(self) -> dict[str, str]:
        """The interfaces of the task in its namespace, with their addresses."""
        plugs = self.dataplane.overlay.tasks.get(T1, ())
        return {plug.inside.name: plug.addresses[0] for plug in plugs}

    def file(self, name: str) -> str:
        return self.runtime.config("t1").files[name].decode()


def held(detail: TaskDetail) -> dict[str, str]:
    return {one.network_id: one.address for one in detail.addresses}


async def test_a_running_task_joins_and_leaves_networks(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        pid = (await host.reaches(T1, TaskState.RUNNING)).detail.pid
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        detail = await host.acknowledged(2)
        assert held(detail) == {NET: "10.128.0.2", OTHER: "10.129.0.2"}
        assert host.interfaces() == {"eth0": "10.128.0.2", "eth1": "10.129.0.2"}
        assert host.resolvers.open_for[T1][0] == (NET, OTHER)
        assert "10.129.0.2\t" in host.file("hosts")

        await worker.assign(assigned(on(3, OTHER)), NODE)
        detail = await host.acknowledged(3)
        assert held(detail) == {OTHER: "10.129.0.2"}
        assert host.interfaces() == {"eth1": "10.129.0.2"}, "an interface keeps its name"
        assert "10.128.0.2" not in host.file("hosts")
        (plug,) = host.dataplane.overlay.tasks[T1]
        (out,) = [route for route in plug.routes if route.dst == "0.0.0.0/0"]
        assert out.device == "eth1", "the default route is by what is left"

        await worker.assign(assigned(on(4, OTHER, NET)), NODE)
        assert held(await host.acknowledged(4)) == {OTHER: "10.129.0.2", NET: "10.128.0.3"}
        assert host.interfaces() == {"eth1": "10.129.0.2", "eth0": "10.128.0.3"}
        assert detail.pid == pid


async def test_a_task_without_an_overlay_gets_the_resolver_with_the_first(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 9.9.9.9\n")
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        assert "9.9.9.9" in host.file("resolv.conf")
        await worker.assign(assigned(on(2, "bridge", NET)), NODE)
        await host.acknowledged(2)
        assert "nameserver 127.0.0.11" in host.file("resolv.conf")
        await worker.assign(assigned(on(20)), NODE)
        assert list(held(await host.acknowledged(20))) == ["bridge"], "no network is bridge"
        assert list(host.interfaces()) == ["eth0"]
        await worker.assign(assigned(on(30, "none")), NODE)
        detail = await host.acknowledged(30)
        assert (held(detail), host.interfaces()) == ({}, {})
        assert T1 not in host.resolvers.open_for
        assert "9.9.9.9" in host.file("resolv.conf")
        await worker.assign(assigned(on(40, "bridge")), NODE)
        await host.acknowledged(40)
        assert list(host.interfaces()) == ["eth0"]


async def test_a_resolv_conf_that_the_container_edited_stays(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 9.9.9.9\n")
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        host.runtime.config("t1").files["resolv.conf"] = b"nameserver 1.1.1.1\n"
        host.runtime.config("t1").files["hosts"] += b"10.0.0.7\tmine\n"
        await worker.assign(assigned(on(2, NET)), NODE)
        await host.acknowledged(2)
        assert host.file("resolv.conf") == "nameserver 1.1.1.1\n"
        assert "10.0.0.7\tmine\n" in host.file("hosts")
        assert "10.128.0.2\t" in host.file("hosts")


async def test_another_address_replaces_the_interface(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await worker.assign(assigned(on(2, NET, net1="10.128.0.9")), NODE)
        assert held(await host.acknowledged(2)) == {NET: "10.128.0.9"}
        assert host.interfaces() == {"eth0": "10.128.0.9"}


async def test_a_refused_network_leaves_the_task_as_it_was(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    real = host.dataplane.attach

    async def refuse(
        task_id: TaskId, attachments: Sequence[Attachment], gone: Sequence[NetworkId] = ()
    ) -> str:
        if len(attachments) > 1:
            raise NetworkFailed("the kernel refused")
        return await real(task_id, attachments, gone)

    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET), on(1, OTHER, name="t2")), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        await host.reaches(T2, TaskState.RUNNING)
        host.dataplane.attach = refuse  # type: ignore[method-assign]
        await worker.assign(assigned(on(2, NET, OTHER), on(1, OTHER, name="t2")), NODE)
        detail = await host.acknowledged(2)
        assert (detail.in_place_error, detail.networks_refused) == ("the kernel refused", True)
        assert held(detail) == {NET: "10.128.0.2"}
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        record = worker.records[T1]
        assert [one.network_id for one in record.held] == [NET]
        assert [one.target for one in record.spec.networks] == [NET]
        taken = on(3, NET, OTHER, net2="10.129.0.2")
        await worker.assign(assigned(taken, on(1, OTHER, name="t2")), NODE)
        detail = await host.acknowledged(3)
        assert "address 10.129.0.2 is that of task t2" in detail.in_place_error
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        host.go_on()
        free = on(4, NET, OTHER, net2="10.129.0.3")
        await worker.assign(assigned(free, on(1, OTHER, name="t2")), NODE)
        detail = await host.acknowledged(4)
        assert (detail.in_place_error, detail.networks_refused) == ("", False)
        assert held(detail)[OTHER] == "10.129.0.3", "what was refused holds no address"


async def test_a_killed_agent_finishes_or_undoes_what_it_began(tmp_path: Path) -> None:
    """It is killed after the record names the interface, before and after the kernel has it."""
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        begun = host.hang(made=False)
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        await begun.wait()
    assert host.interfaces() == {"eth0": "10.128.0.2"}
    begun = host.hang()
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await begun.wait()
    assert host.interfaces() == {"eth0": "10.128.0.2", "eth1": "10.129.0.2"}
    host.go_on()
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        assert held(await host.acknowledged(2)) == {NET: "10.128.0.2", OTHER: "10.129.0.2"}

        begun = host.hang(made=False)
        await worker.assign(assigned(on(3, NET)), NODE)
        await begun.wait()
    assert len(host.interfaces()) == 2
    host.go_on()
    async with host.worker() as worker:
        await host.overlays.assign(assigned(overlays=(OVERLAY,)))
        assert held(await host.acknowledged(3)) == {NET: "10.128.0.2"}
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        await worker.assign(assigned(on(1, OTHER, name="t2")), NODE)


async def test_an_address_is_released_once_no_record_names_it(tmp_path: Path) -> None:
    """Else a restarted agent could find it with two tasks."""
    host = Networked(tmp_path)
    seen: list[tuple[list[NetworkId], list[NetworkId]]] = []
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET, OTHER)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        keep, plan = host.overlays.keep, host.overlays._plan

        async def look(task_id: TaskId, addresses: Sequence[TaskAddress]) -> None:
            recorded = [one.network_id for one in worker.records[task_id].held]
            seen.append((recorded, [one.network_id for one in plan.addresses(task_id)]))
            await keep(task_id, addresses)

        host.overlays.keep = look  # type: ignore[method-assign]
        await worker.assign(assigned(on(2, OTHER)), NODE)
        await host.acknowledged(2)
        async with asyncio.timeout(60):
            while not seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert seen == [([OTHER], [OTHER, NET])]


async def test_what_was_begun_and_is_not_wanted_any_more_is_undone(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        begun = host.hang()
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        await begun.wait()
        await worker.assign(assigned(on(3, NET)), NODE)
    host.go_on()
    async with host.worker():
        await host.overlays.assign(assigned())
        assert held(await host.acknowledged(3)) == {NET: "10.128.0.2"}
        assert host.interfaces() == {"eth0": "10.128.0.2"}


async def test_a_task_that_ends_during_a_change_leaves_nothing(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    begun = asyncio.Event()
    real = host.dataplane.attach

    async def slow(
        task_id: TaskId, attachments: Sequence[Attachment], gone: Sequence[NetworkId] = ()
    ) -> str:
        begun.set()
        await asyncio.sleep(0.01)
        return await real(task_id, attachments, gone)

    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        host.dataplane.attach = slow  # type: ignore[method-assign]
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        await begun.wait()
        stopped = replace(on(2, NET, OTHER), desired_state=TaskState.REMOVE)
        await worker.assign(assigned(stopped), NODE)
        await host.reaches(T1, TaskState.SHUTDOWN)
        await worker.ended(T1).wait()
        assert not host.dataplane.overlay.tasks
        host.go_on()
        await worker.assign(assigned(on(1, NET, OTHER, name="t2")), NODE)
        status = await host.reaches(T2, TaskState.RUNNING)
        assert held(status.detail)[OTHER] in ("10.129.0.2", "10.129.0.3")


async def test_an_agent_killed_before_it_edited_files_edits_them(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 9.9.9.9\n")
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        begun = host.hang()
        await worker.assign(assigned(on(2, "bridge", NET)), NODE)
        await begun.wait()
    assert "9.9.9.9" in host.file("resolv.conf")
    host.go_on()
    async with host.worker():
        await host.overlays.assign(assigned())
        await host.acknowledged(2)
        assert "nameserver 127.0.0.11" in host.file("resolv.conf")
        assert "10.128.0.2\t" in host.file("hosts")


async def test_a_change_that_is_refused_after_a_kill_is_undone(tmp_path: Path) -> None:
    host = Networked(tmp_path)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(on(1, NET)), NODE)
        await host.reaches(T1, TaskState.RUNNING)
        begun = host.hang()
        await worker.assign(assigned(on(2, NET, OTHER)), NODE)
        await begun.wait()
    host.go_on()

    async def refuse(container_id: str, name: str, edit: object) -> None:
        raise OSError("no space left on device")

    host.runtime.edit_file = refuse  # type: ignore[method-assign]
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        detail = await host.acknowledged(2)
        assert detail.networks_refused
        assert held(detail) == {NET: "10.128.0.2"}
        assert host.interfaces() == {"eth0": "10.128.0.2"}
        assert [one.network_id for one in worker.records[T1].held] == [NET]
