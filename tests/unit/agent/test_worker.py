"""The worker with fakes for runtime, images and dataplane: assignments in, statuses out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from agent import preparation
from agent.assignment import AssignedTask, Assignment, Template
from agent.health.probes import Probes
from agent.images.base import Credentials, Image, ImageConfig
from agent.images.fake import FakeImages, FakeRegistry
from agent.logdrivers.plan import Forwarding
from agent.network.base import DesiredOverlay, Published, Underlay
from agent.network.dns.fake import FakeResolvers
from agent.network.fake import FakeDataplane
from agent.network.overlay.fake import Fabric
from agent.outbox import Outbox
from agent.overlays.overlays import Overlays
from agent.overlays.plan import Plan, SavedPlan
from agent.preparation import PREPARING_AT_ONCE, Preparation
from agent.records import Records
from agent.runtime.base import ContainerConfig, LogLimits
from agent.runtime.fake import CommandScript, FakeRuntime, Script
from agent.runtime.running.attachments import Attachments
from agent.secrets.fake import FakeSecrets
from agent.tasks.generic_resources import GenericResources
from agent.tasks.ocispec import HostFacts
from agent.tasks.record import Record
from agent.volumes.fake import FakeVolumes
from agent.worker import Worker
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import MILLISECOND
from pyswarm_core.docker.reference import Reference
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.objects import HealthState, TaskStatus
from pyswarm_core.specs import (
    ContainerSpec,
    HealthConfig,
    NetworkAttachment,
    PortConfig,
    Protocol,
    PublishMode,
    RegistryLogin,
    TaskSpec,
)
from pyswarm_core.states import TaskState
from tests.fixtures.agent_parts import DeafObserver, accepted_at_once

NODE = NodeId("n1")
NET = NetworkId("net1")
OVERLAY = DesiredOverlay(
    network_id=NET,
    name="app",
    subnet="10.128.0.0/16",
    local_blocks=("10.128.0.0/26",),
    vni=4096,
    node_number=1,
)
IMAGE = "registry.test/web:1"


class _WatchedRuntime(FakeRuntime):
    """Notes to which tasks ports of the host still lead when they get their signal."""

    def __init__(self, dataplane: FakeDataplane, notes: dict[TaskId, bool]) -> None:
        super().__init__()
        self._dataplane = dataplane
        self._notes = notes

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        task_id = TaskId(container_id)
        self._notes[task_id] = task_id in self._dataplane.published
        await super().kill(container_id, signal, everyone=everyone)


class Host:
    """One agent's parts; the fakes outlive a restarted worker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = FakeRegistry()
        self.dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
        self.published_when_signalled: dict[TaskId, bool] = {}
        self.forwarded: dict[str, Forwarding] = {}
        self.runtime: FakeRuntime = _WatchedRuntime(self.dataplane, self.published_when_signalled)
        self.resolvers = FakeResolvers()
        self.outbox = Outbox()
        self.seen: dict[TaskId, TaskStatus] = {}
        self.listening: set[TaskId] = set()

    async def _listening(self, record: Record) -> bool:
        return record.task_id in self.listening

    def _refused(self, pid: int) -> socket.socket:
        raise ConnectionRefusedError("connection refused")

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """A worker that runs; at the end it dies as if killed."""
        async with asyncio.TaskGroup() as group:
            plan, file = Plan("10.127.0.0/24"), self.directory / "overlays.json"
            told = self.outbox.acknowledge
            overlays = Overlays(self.dataplane, plan, file, told, self.resolvers)
            preparation = Preparation(
                generic=GenericResources(()),
                attachments=Attachments(SystemClock()),
                images=FakeImages(self.registry, group),
                overlays=overlays,
                runtime=self.runtime,
                host=HostFacts(),
                hostname="host1",
                cgroup_parent="/test",
                resolv_conf=self.directory / "resolv.conf",
                log_limits=LogLimits(),
                forward=self.forwarded.__setitem__,
                volumes=FakeVolumes(),
                secrets=FakeSecrets(),
            )
            worker = Worker(
                clock=SystemClock(),
                records=Records(self.directory / "tasks", self.directory / "checks"),
                runtime=self.runtime,
                overlays=overlays,
                preparation=preparation,
                outbox=self.outbox,
                observer=DeafObserver(),
                listening=self._listening,
                accepted=accepted_at_once,
                probe=Probes(self.runtime, self._refused),
            )
            self.overlays = overlays
            running = [group.create_task(overlays.run()), group.create_task(worker.run())]
            await worker.adopted()
            try:
                yield worker
            finally:
                for task in running:
                    task.cancel()

    async def until(self, reached: Callable[[dict[TaskId, TaskStatus]], bool]) -> None:
        """Drain the outbox until what was reported satisfies `reached`."""
        while not reached(self.seen):
            await self.outbox.wait()
            for status in self.outbox.drain(1000)[0]:
                self.seen[status.task_id] = status

    async def reaches(self, task_id: TaskId, state: TaskState) -> TaskStatus:
        await self.until(lambda seen: task_id in seen and seen[task_id].state is state)
        return self.seen[task_id]


def assigned(*tasks: AssignedTask, full: bool = True) -> Assignment:
    return Assignment(full, 1, tasks, (), (OVERLAY,), ())


def task(
    name: str = "t1",
    desired: TaskState = TaskState.RUNNING,
    *,
    overlay: bool = False,
    ports: tuple[PortConfig, ...] = (),
) -> AssignedTask:
    spec = TaskSpec(
        container_spec=ContainerSpec(image=IMAGE, args=("run",), stop_grace_period=10**7),
        networks=(NetworkAttachment(target=NET),) if overlay else (),
    )
    template = Template(ServiceId("s"), "web", 1, False, spec, ports)
    return AssignedTask(TaskId(name), 1, desired, template)


async def test_an_assigned_task_runs(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)


async def test_a_task_gets_an_address_of_the_nodes_block(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await host.overlays.assign(assigned())
        await worker.assign(assigned(task(overlay=True)), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.RUNNING)
        assert [a.address for a in status.detail.addresses] == ["10.128.0.2"]


async def test_a_task_serves_once_it_listens_and_no_more_once_it_is_stopped(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    published = (PortConfig(target_port=80, published_port=8080),)
    async with host.worker() as worker:
        await worker.assign(assigned(task(ports=published), task("t2")), NODE)
        await host.until(lambda seen: TaskId("t2") in seen and seen[TaskId("t2")].detail.serving)
        status = await host.reaches(TaskId("t1"), TaskState.RUNNING)
        assert not status.detail.serving
        host.listening.add(TaskId("t1"))
        await host.until(lambda seen: seen[TaskId("t1")].detail.serving)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN, ports=published)), NODE)
        await host.until(lambda seen: not seen[TaskId("t1")].detail.serving)


CHECK = HealthConfig(test=("CMD", "check"), interval=MILLISECOND, timeout=10**9, retries=2)


def with_check(wanted: AssignedTask, **checks: HealthConfig) -> AssignedTask:
    spec = wanted.template.spec
    container = replace(spec.container_spec, **checks)
    template = replace(wanted.template, spec=replace(spec, container_spec=container))
    return replace(wanted, template=template)


async def test_a_task_runs_once_its_check_succeeds_and_fails_with_its_last_output(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    t1 = TaskId("t1")
    scripts = host.runtime.scripts
    scripts[t1] = Script(commands={"check": CommandScript(code=1, output=b"not yet")})
    async with host.worker() as worker:
        wanted = with_check(task(), healthcheck=replace(CHECK, retries=1000))
        await worker.assign(assigned(wanted), NODE)
        status = await host.reaches(t1, TaskState.STARTING)
        await host.until(lambda seen: "not yet" in seen[t1].detail.message)
        host.runtime.commands(t1)["check"] = CommandScript()
        status = await host.reaches(t1, TaskState.RUNNING)
        assert (status.detail.health, status.detail.serving) == (HealthState.HEALTHY, True)
    async with host.worker() as worker:
        record = worker.records[t1]
        assert record.health is not None
        assert record.health.results, "they outlive the agent"
        host.runtime.commands(t1)["check"] = CommandScript(code=1, output=b"gone")
        await host.until(lambda seen: seen[t1].state is TaskState.FAILED)
        assert host.seen[t1].detail.error == "unhealthy: gone"
        assert host.seen[t1].detail.ran > 0


async def test_the_check_of_the_image_is_made(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE, config=ImageConfig(healthcheck=replace(CHECK, retries=1)))
    t1 = TaskId("t1")
    host.runtime.scripts[t1] = Script(commands={"check": CommandScript(code=1, output=b"sick")})
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(t1, TaskState.FAILED)
        assert status.detail.error == "unhealthy: sick"


async def test_a_hung_check_is_not_waited_for_by_a_stop(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    t1 = TaskId("t1")
    host.runtime.scripts[t1] = Script(commands={"check": CommandScript(takes_s=1000)})
    wanted = with_check(task(), healthcheck=replace(CHECK, timeout=10**12))
    async with host.worker() as worker:
        await worker.assign(assigned(wanted), NODE)
        await host.reaches(t1, TaskState.STARTING)
        stop = replace(wanted, desired_state=TaskState.SHUTDOWN)
        await worker.assign(assigned(stop), NODE)
        await host.reaches(t1, TaskState.SHUTDOWN)


def host_port(published: int = 0, target: int = 80) -> PortConfig:
    return PortConfig(
        target_port=target, published_port=published, publish_mode=PublishMode.HOST,
        protocol=Protocol.UDP,
    )  # fmt: skip


async def test_ports_of_mode_host_lead_to_a_task_while_it_serves(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    t1, t2 = TaskId("t1"), TaskId("t2")
    ports = (host_port(53), host_port(0), PortConfig(target_port=1, protocol=Protocol.UDP))
    async with host.worker() as worker:
        await worker.assign(assigned(task(ports=ports), task("t2", ports=(host_port(0),))), NODE)
        await host.until(lambda seen: all(t in seen and seen[t].detail.serving for t in (t1, t2)))
        while len(host.dataplane.published) < 2:
            await host.overlays.settled()
            await asyncio.sleep(0)
        found = {t: p.ports for t, p in host.dataplane.published.items()}
        assert found == {t: host.seen[t].detail.ports for t in (t1, t2)}
        assert {p.published_port for ports in found.values() for p in ports} == {53, 32768, 32769}
        assert host.dataplane.published[t1].address == host.seen[t1].detail.addresses[0].address
    async with host.worker() as worker:
        await host.overlays.settled()
        assert {t: p.ports for t, p in host.dataplane.published.items()} == found
        assert host.runtime.signals == []
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN, ports=ports)), NODE)
        await host.reaches(t1, TaskState.SHUTDOWN)
        await host.reaches(t2, TaskState.SHUTDOWN)
        assert host.published_when_signalled == {t1: False, t2: False}


async def test_ports_of_a_task_that_nobody_remembers_are_withdrawn(tmp_path: Path) -> None:
    host = Host(tmp_path)
    left = Published(
        task_id=TaskId("t9"), network_id=NET, address="10.128.0.9", ports=(host_port(53),)
    )
    kept = msgspec.json.encode(SavedPlan((OVERLAY,), (), (left,)))
    (tmp_path / "overlays.json").write_bytes(kept)
    async with host.worker(), asyncio.timeout(60):
        while host.dataplane.published or not host.dataplane.overlay.kernel.links:
            await host.overlays.settled()
            await asyncio.sleep(0)
        assert host.overlays.named == frozenset()


async def test_a_returning_agent_goes_on_looking_whether_a_task_listens(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    published = (PortConfig(target_port=80, published_port=8080),)
    async with host.worker() as worker:
        await worker.assign(assigned(task(ports=published)), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
    host.listening.add(TaskId("t1"))
    async with host.worker():
        await host.until(lambda seen: seen[TaskId("t1")].detail.serving)


async def test_an_image_nobody_has_rejects_the_task(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.REJECTED)
        assert "registry.test/web:1" in status.detail.error


class HungRegistry(FakeRegistry):
    """Takes every call and answers only those for what was pushed."""

    async def fetch(self, reference: Reference, credentials: Credentials | None) -> Image:
        """See `FakeRegistry.fetch`."""
        if reference.repository == "hung":
            await asyncio.Event().wait()
        return await super().fetch(reference, credentials)


async def test_tasks_that_wait_for_a_hung_registry_hold_up_no_other(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry = HungRegistry()
    host.registry.push(IMAGE)
    spec = TaskSpec(container_spec=ContainerSpec(image="registry.test/hung:1"))
    template = replace(task().template, spec=spec)
    names = (f"h{number}" for number in range(2 * PREPARING_AT_ONCE))
    waiting = [replace(task(name), template=template) for name in names]
    async with host.worker() as worker:
        await worker.assign(assigned(*waiting), NODE)
        await worker.assign(assigned(*waiting, task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        assert {host.seen[other.task_id].state for other in waiting} == {TaskState.PREPARING}


async def test_a_login_opens_its_own_registry_and_is_forgotten(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    host.registry.login = Credentials(username="ann", password="right")
    login = RegistryLogin(registry="registry.test", username="ann", password="right")
    own, other = task("t1"), task("t2")
    own = replace(own, template=replace(own.template, login=login))
    elsewhere = replace(login, registry="other.test")
    other = replace(other, template=replace(other.template, login=elsewhere))
    async with host.worker() as worker:
        await worker.assign(assigned(other), NODE)
        status = await host.reaches(TaskId("t2"), TaskState.REJECTED)
        assert "not allowed to pull" in status.detail.error
        await worker.assign(assigned(own, other), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        kept = [path.read_text() for path in (tmp_path / "tasks").iterdir()]
        assert len(kept) == 2
        assert not any("right" in text for text in kept)


async def test_an_exit_told_before_the_start_has_answered_names_the_program(
    tmp_path: Path,
) -> None:
    class Slow(FakeRuntime):
        async def start(self, container_id: str) -> None:
            try:
                await super().start(container_id)
            finally:
                await host.reaches(TaskId(container_id), TaskState.FAILED)

    host = Host(tmp_path)
    host.runtime = Slow()
    host.registry.push(IMAGE)
    host.runtime.scripts["t1"] = Script(fails_start="exec /run: no such file")
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.FAILED)
        assert status.detail.error == "exec /run: no such file"


async def test_a_task_stopped_before_its_preparation_began_ends(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)


async def test_a_task_not_named_in_a_full_assignment_is_stopped_and_forgotten(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
        await worker.assign(assigned(), NODE)
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)
        await worker.ended(TaskId("t1")).wait()
        assert await host.runtime.found() == ()
        assert list((tmp_path / "tasks").iterdir()) == []


async def test_a_restarted_worker_adopts_what_runs_and_starts_nothing_twice(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        pid = (await host.reaches(TaskId("t1"), TaskState.RUNNING)).detail.pid
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        (found,) = await host.runtime.found()
        assert found.pid == pid
        assert [status.state for status in worker.report()] == [TaskState.RUNNING]


async def test_an_exit_while_no_worker_ran_is_reported(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        await host.reaches(TaskId("t1"), TaskState.RUNNING)
    await host.runtime.kill("t1", 9)
    async with host.worker():
        status = await host.reaches(TaskId("t1"), TaskState.FAILED)
        assert status.detail.error == "killed by signal 9 (exit 137)"


async def test_an_unknown_task_that_should_not_run_is_reported_as_shut_down(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    async with host.worker() as worker:
        await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
        await host.reaches(TaskId("t1"), TaskState.SHUTDOWN)
        assert not worker.records


class _Stuck(FakeRegistry):
    """Never gets to the end of a fetch."""

    async def fetch(self, reference: Reference, credentials: Credentials | None) -> Image:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_pull_without_progress_ends_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "PULL_STALL_MAX", 10 * MILLISECOND)
    host = Host(tmp_path)
    host.registry = _Stuck()
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.REJECTED)
        assert f"image {IMAGE}: no progress for " in status.detail.error


async def test_a_container_whose_making_hangs_ends_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "CREATION_MAX", 10 * MILLISECOND)
    host = Host(tmp_path)
    host.registry.push(IMAGE)

    async def never(config: ContainerConfig) -> int:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(host.runtime, "create", never)
    async with host.worker() as worker:
        await worker.assign(assigned(task()), NODE)
        status = await host.reaches(TaskId("t1"), TaskState.REJECTED)
        assert "making its namespace and container took longer" in status.detail.error
