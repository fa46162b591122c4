"""Hosts: a disk, containers and network tables that outlive the agent, and the real agent on them.

Killing the agent leaves all of that; losing power leaves the disk; a host that is lost for good
leaves nothing and never comes back.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import IO, Any

import msgspec

from agent.assignment import Assignment
from agent.health.base import Outcome
from agent.images.base import ImageError, ImageNotFound
from agent.network.base import Underlay
from agent.network.dns.fake import FakeResolvers
from agent.network.fake import FakeDataplane
from agent.network.names import Names
from agent.network.overlay.fake import Fabric
from agent.outbox import Outbox
from agent.overlays.overlays import Overlays
from agent.overlays.plan import Attached, Plan
from agent.preparation import ReportStatus
from agent.runtime.base import ContainerConfig, RuntimeFailed
from agent.secrets.plan import Content
from agent.session.greeting import Greeting
from agent.session.identity import Identity
from agent.tasks.events import Prepared
from agent.tasks.ocispec_resources import cgroup_limits, interfaces
from agent.tasks.record import InPlaceChange, Record
from agent.volumes.expanding import context_of, with_templates_expanded
from agent.volumes.removing import Removals
from agent.worker import Worker
from controller.identity import ca
from pyswarm_core.api.v1 import dispatcher_pb2, objects_pb2
from pyswarm_core.clock import SECOND
from pyswarm_core.codec import to_proto
from pyswarm_core.docker.generic_resources import offered
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import NodeDescription, NodeResources, Platform
from pyswarm_core.resources import GenericResource
from pyswarm_core.states import Capability, TaskState
from tests.fixtures.agent_parts import accepted_at_once
from tests.sim.behaviours import behaviour_of
from tests.sim.clock import Scheduler
from tests.sim.hostile import Liar
from tests.sim.images import HostImages
from tests.sim.net import Net, SimEchoes
from tests.sim.payloads import MemoryStore, NotedSecrets
from tests.sim.probes import SimProbes
from tests.sim.process import Process, spawn
from tests.sim.rand import Chance, Seed
from tests.sim.runtime import Engine, SimRuntime
from tests.sim.session import SimSession, fetch, join

FLEET = "sim"
NAMES = Names(FLEET)


OVERLAYS = "overlays.json"


CSR = ca.csr_pem(ca.new_key())
"""Of every host: nobody looks at keys here."""


def generic_of(number: int) -> tuple[GenericResource, ...]:
    """What the host of that number offers of resources that users define."""
    return offered("-", (("gpu=a,b",), ("gpu=3", "ssd=1"), ())[number % 3])


class MemoryFile:
    """The few things that are done to a `Path` here, on a disk that is a dictionary."""

    def __init__(self, disk: dict[str, bytes], name: str) -> None:
        self._disk = disk
        self._name = name

    def exists(self) -> bool:
        return self._name in self._disk

    def read_bytes(self) -> bytes:
        return self._disk[self._name]

    def write_bytes(self, data: bytes) -> int:
        self._disk[self._name] = data
        return len(data)

    @contextmanager
    def open(self, _: str) -> Iterator[IO[bytes]]:
        """For writing; with a descriptor, as `os.fsync` needs one."""
        with os.fdopen(os.memfd_create(self._name), "w+b") as file:
            yield file
            file.seek(0)
            self.write_bytes(file.read())

    def unlink(self, *, missing_ok: bool = False) -> None:
        self._disk.pop(self._name, None)

    @property
    def stem(self) -> str:
        return PurePosixPath(self._name).stem

    @property
    def parent(self) -> "MemoryFile":
        return self

    def glob(self, pattern: str) -> list["MemoryFile"]:
        return [MemoryFile(self._disk, n) for n in self._disk if PurePosixPath(n).match(pattern)]

    def __lt__(self, other: "MemoryFile") -> bool:
        return self._name < other._name

    def touch(self, mode: int = 0o666) -> None:
        self._disk.setdefault(self._name, b"")

    def with_suffix(self, suffix: str) -> "MemoryFile":
        return MemoryFile(self._disk, str(PurePosixPath(self._name).with_suffix(suffix)))

    def replace(self, target: "MemoryFile") -> "MemoryFile":
        target.write_bytes(self._disk.pop(self._name))
        return target


class MemoryRecords:
    """`Records` on such a disk."""

    def __init__(self, disk: dict[str, bytes]) -> None:
        self._disk = disk
        self._decoder = msgspec.json.Decoder(Record)

    def load(self) -> dict[TaskId, Record]:
        names = sorted(name for name in self._disk if name.startswith("tasks/"))
        records = [self._decoder.decode(self._disk[name]) for name in names]
        return {record.task_id: record for record in records}

    def save(self, record: Record) -> None:
        self._disk[f"tasks/{record.task_id}"] = msgspec.json.encode(record.durable)

    save_results = save

    def forget(self, task_id: TaskId) -> None:
        self._disk.pop(f"tasks/{task_id}", None)


class SimPreparation:
    """Pulls by the clock, then what the real one does with overlays and runtime."""

    def __init__(self, host: "Host", overlays: Overlays, runtime: SimRuntime) -> None:
        self._host = host
        self._overlays = overlays
        self._runtime = runtime
        store: Any = MemoryStore(host.engine.payloads, host.engine.secret_files)
        swaps = host.engine.secret_swaps
        self._secrets = NotedSecrets(swaps, store, host.fetch, lambda: host.records)

    async def undo(self, task_id: TaskId, *, keep_logs: bool) -> None:
        """See `Preparation.undo`."""
        await self._runtime.remove(task_id, keep_logs=keep_logs)
        await self._overlays.detach(task_id)
        self._secrets.released(task_id)

    async def prepare(self, record: Record, report: ReportStatus) -> Prepared:
        """See `Preparation.prepare`."""
        record = with_templates_expanded(record, self._host.name, "x86_64")
        image = record.spec.container_spec.image
        behaviour = behaviour_of(image)
        if record.lacks_login:
            raise ImageError(f"{image}: unauthorized")
        if image not in self._host.images:
            report("pulling")
            await asyncio.sleep(self._host.chance.duration(*behaviour.pull_ms) / SECOND)
            if behaviour.missing:
                raise ImageNotFound(f"no such image: {image}")
            self._host.images[image] = None
        named = [record.volumes.get(name, "") for name in record.spec.volumes]
        if not all(named):
            raise RuntimeFailed("the controller has no volume of that name")
        for volume_id in named:
            await self._runtime.make_copy(volume_id)
        await self._secrets.ready(record, context_of(record, self._host.name, "x86_64"), report)
        networks = [NetworkId(network.target) for network in record.spec.networks]
        attached = await self._overlays.attach(
            record.task_id, networks, interfaces=interfaces(record.spec)
        )
        ports = self._overlays.claim(record.task_id, record.ports)
        pid = await self._runtime.create(
            ContainerConfig(
                id=record.task_id,
                oci={
                    "image": image,
                    "limits": cgroup_limits(record.spec.resources),
                    "volumes": tuple(named),
                    "claim": record.claim,
                },
                layers=(),
                layer=record.layer,
            )
        )
        return Prepared(
            image_id=image,
            stop_signal="SIGTERM",
            pid=pid,
            addresses=attached.addresses,
            ports=ports,
        )

    async def networks_changed(self, record: Record, before: Attached, after: Attached) -> None:
        """See `Preparation.networks_changed`. Nobody reads the files."""

    async def files_changed(self, record: Record, change: InPlaceChange) -> bool:
        """See `Preparation.files_changed`."""
        record = msgspec.structs.replace(record, spec=change.with_references(record.spec))
        context = context_of(record, self._host.name, "x86_64")
        return await self._secrets.swap(record, context, lambda message: None)

    def files_kept(self, task_id: TaskId) -> None:
        """See `Preparation.files_kept`."""
        self._secrets.trim(task_id)


class Serving:
    """An observer of when tasks serve, and ceased to."""

    def __init__(self, process: Process, served: dict[TaskId, int]) -> None:
        self._process = process
        self._served = served

    def moved(self, before: Record, after: Record) -> None:
        """Note when a task ceased to serve."""
        if after.detail.serving:
            self._served[after.task_id] = 0
        elif before.detail.serving:
            self._served[after.task_id] = self._process.scheduler.now

    def checked(self, kind: str, outcome: Outcome, duration_s: float) -> None:
        """Nothing is counted."""


class HostWorld(msgspec.Struct):
    """What hosts stand on."""

    scheduler: Scheduler
    net: Net
    fabric: Fabric
    seed: Seed
    controllers: tuple[str, ...]
    token: Callable[[], str]
    on_crash: Callable[[str], None]
    on_start: Callable[[str, TaskId], None]
    on_stop: Callable[[TaskId], None]
    on_kill: Callable[[TaskId], None]


class Host:
    """One machine of the fleet."""

    session: SimSession | None = None

    def __init__(
        self,
        number: int,
        world: HostWorld,
        resources: NodeResources,
        lacks: Iterable[Capability] = (),
        max_tasks: int = 0,
    ) -> None:
        self.number = number
        self.name = f"h{number}"
        self.address = f"192.0.2.{number}"
        self.disk: dict[str, bytes] = {}
        self.images = HostImages()
        self.served: dict[TaskId, int] = {}
        """When tasks that served ceased to; 0: they still do."""
        self.lost = self.removed = False
        self.powered = True
        self.killed_at = 0
        """When its agent was killed last."""
        self.chance: Chance = world.seed.stream(f"host/{self.name}")
        self.process: Process | None = None
        self.worker: Worker | None = None
        self.adopted: Worker | None = None  # the worker, once it has adopted what was there
        self.overlays: Overlays | None = None
        self.liar: Liar | None = None
        self.identity: Identity | None = None
        self._world = world
        self.description = NodeDescription(
            hostname=self.name,
            resources=resources,
            max_tasks=max_tasks,
            engine_labels={"rack": str(number % 2)},
            platform=Platform(architecture="arm64" if number % 4 == 3 else "amd64"),
            lacks=tuple(lacks),
            protocol=PROTOCOL,
        )
        self.engine = Engine(
            world.scheduler,
            world.seed.stream(f"engine/{self.name}"),
            world.seed.stream(f"checks/{self.name}"),
            on_start=lambda task_id: world.on_start(self.name, task_id),
            on_stop=world.on_stop,
            on_kill=world.on_kill,
        )
        self.dataplane = self._fresh_dataplane()
        self.filters_echoes = False
        world.net.answers_at(
            self.address, self.name, lambda: self.powered and not self.filters_echoes
        )

    def _fresh_dataplane(self) -> FakeDataplane:
        underlay = Underlay(address=self.address)
        dataplane = FakeDataplane(self._world.fabric, underlay, FLEET)
        dataplane.overlay.lacks = {
            Capability(word): "not in this kernel" for word in self.description.lacks
        }
        return dataplane

    @property
    def up(self) -> bool:
        """Whether its agent's process exists."""
        return self.process is not None and not self.process.dead

    @property
    def node_id(self) -> NodeId | None:
        """As which node it joined."""
        identity = Identity.load(self._file("identity.json"))
        return identity.node_id if identity else None

    @property
    def records(self) -> Mapping[TaskId, Record]:
        """Those of its agent."""
        return self.worker.records if self.worker is not None else {}

    async def fetch(self, kind: str, object_id: str, task_id: str) -> Content:
        """See `Fetcher.fetch`."""
        if self.session is None or self.session.process is not self.process:
            raise Unavailable("no session is open")
        return await fetch(self._world.net, self.session, kind, object_id, task_id)

    def running(self) -> list[TaskId]:
        """The tasks whose containers run here, whether or not anybody knows."""
        return [task_id for task_id, c in self.engine.containers.items() if c.running]

    @property
    def preparing(self) -> bool:
        """Whether its agent makes something just now."""
        records = self.worker.records.values() if self.up and self.worker else ()
        return any(record.state is TaskState.PREPARING for record in records)

    def addresses(self, task_id: TaskId, network_id: NetworkId) -> list[IPv4Address]:
        """What a task here has on a network, by its interfaces."""
        bridge = NAMES.bridge(network_id)
        plugs = self.dataplane.overlay.tasks.get(task_id, ())
        return [IPv4Address(p.cidr.partition("/")[0]) for p in plugs if p.bridge == bridge]

    def record(self, task_id: TaskId) -> Record | None:
        """What its agent last recorded of a task; None once it has forgotten the task."""
        return MemoryRecords(self.disk).load().get(task_id)

    def boot(self) -> None:
        """Start the agent, unless it runs or the host is gone."""
        if self.lost or self.up:
            return
        self.powered = True
        self.adopted = None
        process = self.process = spawn(self.name, self._world.scheduler, self._world.on_crash)
        process.start(self._main(process))

    def kill_agent(self) -> None:
        """SIGKILL to the agent alone."""
        if self.process is not None and self.up:
            self.process.kill()
            self.killed_at = self._world.scheduler.now
            self.engine.watcher = lambda: None
            self._world.net.died(self.process, silently=False)

    def lose_power(self) -> None:
        """Everything stops; disk and identity stay, what was below /run is gone."""
        if self.process is not None and self.up:
            self.process.kill()
            self._world.net.died(self.process, silently=True)
        self.powered = False
        self.disk.pop(OVERLAYS, None)
        self.engine.watcher = lambda: None
        self.engine.lose_power()
        self.dataplane = self._fresh_dataplane()

    def lose_for_good(self) -> None:
        """It will never be seen again."""
        self.lose_power()
        self.engine.containers.clear()
        self.lost = True

    def _file(self, name: str) -> Any:
        return MemoryFile(self.disk, name)

    async def _main(self, process: Process) -> None:
        outbox = Outbox()
        file, plan = self._file(OVERLAYS), Plan("172.31.0.0/20", self.address)
        overlays = Overlays(self.dataplane, plan, file, outbox.acknowledge, FakeResolvers())
        runtime = SimRuntime(self.engine)
        worker = Worker(
            clock=process,
            records=MemoryRecords(self.disk),  # type: ignore[arg-type]
            runtime=runtime,
            overlays=overlays,
            preparation=SimPreparation(self, overlays, runtime),  # type: ignore[arg-type]
            outbox=outbox,
            observer=Serving(process, self.served),
            listening=self._listening,
            accepted=accepted_at_once,
            probe=SimProbes(runtime, self._no_socket),
        )
        self.worker, self.overlays = worker, overlays
        removals = Removals(runtime.remove_copy, outbox, lambda: worker.records, worker.ended)
        async with asyncio.TaskGroup() as group:
            group.create_task(overlays.run())
            group.create_task(worker.run())
            group.create_task(removals.run())
            identity = await self._identity(process)

            async def assign(assignment: Assignment) -> None:
                await overlays.assign(assignment)
                await worker.assign(assignment, identity.node_id)
                removals.assigned(assignment)

            echoes = SimEchoes(self._world.net, process, outbox.probed)
            session = SimSession(
                identity,
                self._greeting,
                outbox,
                worker,
                assign=assign,
                probe=echoes.ask,
                open_tunnel=None,  # type: ignore[arg-type]
                faults=lambda: overlays.faults,
                image_disk=self.images.disk,
            )
            session.net, session.process = self._world.net, process
            self.session = session
            if self.liar is not None:
                session.lies = self.liar.lies
            await worker.adopted()
            self.adopted = worker
            group.create_task(session.run())

    async def _greeting(self) -> Greeting:
        return Greeting(self.description, self.address)

    async def _listening(self, record: Record) -> bool:
        """A published port opens at some look or other."""
        return self.chance.hits(0.3)

    def _no_socket(self, pid: int) -> socket.socket:
        """Nothing listens in the simulator."""
        raise ConnectionRefusedError("connection refused")

    async def _identity(self, process: Process) -> Identity:
        turn = 0
        while (identity := Identity.load(self._file("identity.json"))) is None:
            turn += 1
            reply = await join(
                self._world.net,
                process,
                self._world.controllers[turn % len(self._world.controllers)],
                dispatcher_pb2.JoinRequest(
                    token=self._world.token(),
                    description=to_proto(self.description, objects_pb2.NodeDescription()),
                    addr=self.address,
                    availability="active",
                    csr=CSR,
                ),
            )
            if reply is None:
                await asyncio.sleep(0.3)
                continue
            saved = {
                "node_id": reply.node_id,
                "cluster_id": reply.cluster_id,
                "certificate": {
                    "key": "",
                    "chain": reply.certificate.chain.decode(),
                    "roots": reply.certificate.roots.decode(),
                    "issuer": reply.certificate.roots.decode(),
                    "issued_at": reply.certificate.issued_at,
                    "expires_at": reply.certificate.expires_at,
                    "received_at": reply.certificate.issued_at,
                },
                "controllers": list(dict.fromkeys((*reply.controllers, *self._world.controllers))),
            }
            self._file("identity.json").write_bytes(msgspec.json.encode(saved))
        return identity
