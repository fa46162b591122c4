"""Containers of one host: a Runtime whose containers do as their image's name says.

They belong to the host, not to the agent: they outlive its process. Every act takes time, and an
agent killed meanwhile may or may not have done it.
"""

import asyncio
import signal as signals
from collections.abc import AsyncIterator, Callable

import msgspec

from agent.runtime.base import (
    Attachment,
    CgroupLimits,
    Command,
    CommandResult,
    ContainerConfig,
    ContainerExit,
    ContainerState,
    FoundContainer,
    NotRunning,
    OpenCommand,
    ProcessTable,
    Rootfs,
    RuntimeFailed,
    Stats,
)
from agent.secrets.plan import Content
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.ids import TaskId
from tests.sim.behaviours import READY, Checks, behaviour_of
from tests.sim.clock import Scheduler
from tests.sim.rand import Chance

SMALL = 32 << 20
"""Some containers use more memory than a smaller limit allows."""


class Container(msgspec.Struct):
    """One container on the host's disk."""

    id: TaskId
    image: str
    state: ContainerState = ContainerState.CREATED
    exit: ContainerExit | None = None
    paused: bool = False
    limits: CgroupLimits = CgroupLimits()
    layer: str = ""
    volumes: tuple[str, ...] = ()
    """The ids of those that it mounts."""
    claim: str = ""
    """What only one task at a time has."""
    started_at: int = 0
    health: Checks | None = None
    ready: Checks | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.state is ContainerState.RUNNING


class Swap(msgspec.Struct, frozen=True):
    """New files of secrets and configs for a running container."""

    versions: frozenset[str]
    is_done: bool = False
    """Whether the container has them."""


class Engine:
    """What survives the agent: the containers, and who watches them."""

    def __init__(
        self,
        scheduler: Scheduler,
        chance: Chance,
        checks: Chance,
        *,
        on_start: Callable[[TaskId], None],
        on_stop: Callable[[TaskId], None],
        on_kill: Callable[[TaskId], None],
    ) -> None:
        self.scheduler = scheduler
        self.chance = chance
        self.check_chance = checks
        self.containers: dict[TaskId, Container] = {}
        self.on_shared_layer: Callable[[str], None] = lambda text: None
        self.on_deleted_layer: Callable[[str], None] = lambda layer: None
        self.layers: dict[str, set[str]] = {}
        """What was written to each kept layer: the ids of the tasks that had it."""
        self.payloads: dict[str, Content] = {}
        """Versions of secrets and configs in its tmpfs, and of each task its files by place."""
        self.secret_files: dict[str, dict[str, bytes]] = {}
        self.secret_swaps: dict[str, Swap] = {}
        """What running tasks get, until their agent has recorded it."""
        self.volumes: dict[str, set[str]] = {}
        """What was written to each copy of a volume: the ids of the tasks that had it."""
        self.receiving: dict[str, object] = {}
        """Copies of volumes that arrive; a removal ends that."""
        self.on_volumes: Callable[[TaskId], None] = lambda task_id: None
        self.on_deleted_volume: Callable[[str], None] = lambda volume_id: None
        self.watcher: Callable[[], None] = lambda: None
        self.on_start = on_start
        self.on_stop = on_stop
        self.on_kill = on_kill

    def run(self, container: Container) -> None:
        """Its process starts."""
        self.on_start(container.id)
        container.state = ContainerState.RUNNING
        for volume_id in container.volumes:
            self.volumes[volume_id].add(container.id)
        if container.volumes:
            self.on_volumes(container.id)
        container.started_at = self.scheduler.now
        behaviour = behaviour_of(container.image)
        container.health = Checks(behaviour.health, self.check_chance)
        container.ready = Checks(behaviour.ready, self.check_chance)
        if behaviour.lives_ms is not None:
            self.scheduler.after(
                self.chance.duration(*behaviour.lives_ms),
                lambda: self.end(container, behaviour.exit_code, oom=behaviour.oom),
            )

    def end(self, container: Container, code: int, *, oom: bool = False, error: str = "") -> None:
        """Its process ends."""
        if container.state is ContainerState.STOPPED:
            return
        container.state = ContainerState.STOPPED
        number = code - 128 if code > 128 else 0
        container.exit = ContainerExit(
            id=container.id,
            code=code,
            signal=number,
            oom=oom,
            at_ns=self.scheduler.now,
            error=error,
        )
        self.watcher()

    def signal(self, task_id: TaskId, number: int) -> None:
        """A user's signal to its process, which ends unless it ignores all but SIGKILL."""
        container = self.containers.get(task_id)
        if container is None or not container.running:
            return
        if number == signals.SIGKILL or not behaviour_of(container.image).stubborn:
            self.end(container, 128 + number)

    def lose_power(self) -> None:
        """Nothing runs any more; what was on disk says so."""
        self.payloads.clear()
        self.secret_files.clear()
        for container in self.containers.values():
            if container.state is not ContainerState.STOPPED:
                container.state = ContainerState.STOPPED
                container.exit = ContainerExit(id=container.id, code=137, at_ns=self.scheduler.now)


class SimRuntime:
    """One agent's hold on the engine: see `Runtime`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = asyncio.Event()
        self._dead = False
        engine.watcher = self._changed.set

    def file_path(self, container_id: str, name: str) -> str:
        return f"/sim/{container_id}/{name}"

    async def edit_file(self, container_id: str, name: str, edit: Callable[[bytes], bytes]) -> None:
        pass  # no container of the simulator reads its files

    def log_path(self, container_id: str) -> str:
        return f"/sim/{container_id}.log"

    async def create(self, config: ContainerConfig) -> int:
        await self._takes(5, 60)
        task_id = TaskId(config.id)
        if task_id in self._engine.containers:
            raise RuntimeFailed(f"container {task_id} exists already")
        if holder := self._holder(config.layer):
            self._engine.on_shared_layer(f"tasks {holder} and {task_id} have one layer")
            raise RuntimeFailed(f"its writable layer is in use by container {holder}")
        image = str(config.oci["image"])
        if behaviour_of(image).create_fails:
            raise RuntimeFailed("exec format error")
        limits = config.oci["limits"]
        assert isinstance(limits, CgroupLimits)
        volumes, claim = config.oci.get("volumes", ()), str(config.oci.get("claim", ""))
        assert isinstance(volumes, tuple)
        container = Container(task_id, image, limits=limits, layer=config.layer)
        container.volumes, container.claim = volumes, claim
        self._engine.containers[task_id] = container
        if config.layer:
            self._engine.layers.setdefault(config.layer, set()).add(task_id)
        await self._takes(0, 20)
        return 1000

    async def start(self, container_id: str) -> None:
        await self._takes(1, 20)
        container = self._engine.containers.get(TaskId(container_id))
        if container is None or container.state is not ContainerState.CREATED:
            raise RuntimeFailed("there is nothing to start")
        if behaviour_of(container.image).start_fails:
            self._engine.end(container, 1, error="no such program")
            raise RuntimeFailed("no such program")
        self._engine.run(container)
        await self._takes(0, 20)

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        await self._takes(0, 5)
        container = self._engine.containers.get(TaskId(container_id))
        if container is None or not container.running:
            if container is not None and signal == signals.SIGKILL:
                self._engine.end(container, 128 + signal)
            return
        if signal == signals.SIGKILL:
            self._engine.on_kill(container.id)
            self._engine.end(container, 128 + signal)
            return
        if signal == signals.SIGHUP:
            return  # a program reads its files again
        self._engine.on_stop(container.id)
        if not behaviour_of(container.image).stubborn:
            delay = self._engine.chance.exponential(100)
            self._engine.scheduler.after(delay, lambda: self._engine.end(container, 128 + signal))

    async def remove(self, container_id: str, *, keep_logs: bool = True) -> None:
        known = self._engine.containers.get(TaskId(container_id))
        # A kept layer's unmount writes to the disk.
        await self._takes(0, 800 if known is not None and known.layer else 10)
        container = self._engine.containers.pop(TaskId(container_id), None)
        if container is not None:
            self._engine.end(container, 137)

    def _holder(self, layer: str) -> str:
        """The container that has the kept layer; empty if none has."""
        held = (c.id for c in self._engine.containers.values() if layer and c.layer == layer)
        return next(held, "")

    async def layers(self) -> tuple[str, ...]:
        return tuple(sorted(self._engine.layers))

    async def remove_layer(self, layer: str) -> None:
        await self._takes(0, 20)
        if holder := self._holder(layer):
            raise RuntimeFailed(f"writable layer {layer} is in use by container {holder}")
        if self._engine.layers.pop(layer, None) is not None:
            self._engine.on_deleted_layer(layer)

    async def make_copy(self, volume_id: str) -> None:
        """A copy of a volume, if the host has none."""
        if volume_id not in self._engine.volumes:
            await self._takes(1, 200)
            self._engine.volumes.setdefault(volume_id, set())

    async def remove_copy(self, volume_id: str) -> None:
        """Delete the copy of a volume."""
        await self._takes(0, 200)
        self._engine.receiving.pop(volume_id, None)
        if self._engine.volumes.pop(volume_id, None) is not None:
            self._engine.on_deleted_volume(volume_id)

    async def found(self) -> tuple[FoundContainer, ...]:
        return tuple(
            FoundContainer(
                id=c.id,
                state=c.state,
                pid=1000 if c.running else 0,
                exit=c.exit,
                paused=c.running and c.paused,
            )
            for _, c in sorted(self._engine.containers.items())
        )

    async def exits(self) -> AsyncIterator[ContainerExit]:
        told: dict[tuple[TaskId, int], None] = {}
        while True:
            self._changed.clear()
            exits = [c.exit for _, c in sorted(self._engine.containers.items()) if c.exit]
            ended = {(TaskId(exit_.id), exit_.at_ns): exit_ for exit_ in exits}
            for key in ended:
                if key not in told:
                    yield ended[key]
            told = dict.fromkeys(ended)
            await self._changed.wait()

    async def exec(self, container_id: str, command: Command, timeout_s: float) -> CommandResult:
        container = self._running(container_id)
        checks = container.ready if command.args[-1] == READY else container.health
        assert checks is not None
        if checks.hangs:
            await asyncio.sleep(timeout_s)
            checks.fail(self._engine.scheduler.now - container.started_at)
            return CommandResult(code=128 + signals.SIGKILL, timed_out=True)
        await self._takes(10, 60)
        if not container.running:
            return CommandResult(code=128 + signals.SIGKILL)
        good = checks.look(self._engine.scheduler.now - container.started_at)
        return CommandResult(code=0 if good else 1, output=b"well" if good else b"not well")

    async def open(self, container_id: str, command: Command) -> OpenCommand:
        raise NotImplementedError("no user runs commands in the simulator")

    async def attach(self, container_id: str) -> Attachment:
        raise NotImplementedError("no user attaches in the simulator")

    async def pause(self, container_id: str) -> None:
        await self._takes(1, 5)
        self._running(container_id).paused = True

    async def resume(self, container_id: str) -> None:
        await self._takes(1, 5)
        self._running(container_id).paused = False

    async def update(self, container_id: str, limits: CgroupLimits) -> None:
        await self._takes(1, 5)
        container = self._running(container_id)
        if 0 < limits.memory_bytes < SMALL and self._engine.chance.hits(0.3):
            raise RuntimeFailed("cannot change the memory limit: more is in use")
        container.limits = limits
        await self._takes(0, 5)

    def process(self, container_id: str) -> tuple[int, int]:
        raise NotRunning("containers of the simulator have no processes")

    async def top(self, container_id: str, options: tuple[str, ...]) -> ProcessTable:
        raise RuntimeFailed("containers of the simulator have no processes")

    async def rootfs(self, container_id: str, layer: str = "", *, writable: bool = False) -> Rootfs:
        raise RuntimeFailed("containers of the simulator have no files")

    async def stats(self, container_id: str) -> Stats | None:
        container = self._engine.containers.get(TaskId(container_id))
        return Stats(pids=1) if container is not None and container.running else None

    def _running(self, container_id: str) -> Container:
        container = self._engine.containers.get(TaskId(container_id))
        if container is None or not container.running:
            raise RuntimeFailed(f"container {container_id} is not running")
        return container

    async def tend(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def _takes(self, low_ms: float, high_ms: float) -> None:
        delay = self._engine.chance.duration(low_ms, high_ms)
        await asyncio.sleep(max(delay, MILLISECOND // 100) / SECOND)
