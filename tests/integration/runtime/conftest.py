"""A real runtime per test: its own state, run directory and cgroup parent, gone afterwards."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import preflight
from agent.images.base import ImageConfig
from agent.preflight import Preflight
from agent.runtime import cgroups
from agent.runtime.base import Command, ContainerConfig, LogLimits, Stats
from agent.runtime.conmon import Binaries
from agent.runtime.crun import ConmonRuntime
from agent.runtime.isolation import devices
from agent.runtime.isolation.bound import BoundSource
from agent.runtime.layout import Layout
from agent.runtime.usage.reading import Reader
from agent.tasks.ocispec import Surroundings, oci_config
from pyswarm_core.specs import ContainerSpec, Limits, Resources, TaskSpec
from tests.fixtures import leaks
from tests.fixtures.rootfs import make_rootfs
from tests.fixtures.runtime_contract import Behaviour, CommandBehaviour

COMMANDS: dict[Behaviour, tuple[str, ...]] = {
    Behaviour.RUNS: ("/bin/sh", "-c", "trap 'exit 143' TERM; while true; do sleep 0.05; done"),
    Behaviour.EXITS_WITH_7: ("/bin/sh", "-c", "exit 7"),
    Behaviour.IGNORES_TERM: ("/bin/sleep", "1000"),
    Behaviour.NO_PROGRAM: ("/bin/nothing",),
    Behaviour.BAD_PROGRAM: ("/bin/garbage",),
    Behaviour.OUT_OF_MEMORY: ("/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=2"),
}


RUN_INSIDE: dict[CommandBehaviour, tuple[str, ...]] = {
    CommandBehaviour.EXITS_WITH_7: ("/bin/sh", "-c", "echo hello; exit 7"),
    CommandBehaviour.WRITES_4_MIB: (
        "/bin/sh",
        "-c",
        "dd if=/dev/zero bs=64k count=64 2>/dev/null; exit 3",
    ),
    CommandBehaviour.WRITES_FILE: ("/bin/sh", "-c", ": > /kept"),
    CommandBehaviour.LOOKS_FOR_FILE: ("/bin/sh", "-c", "test -e /kept"),
    # One in a session of its own, one whose parent is gone, and the program itself.
    CommandBehaviour.HANGS: (
        "/bin/sh",
        "-c",
        "busybox setsid sleep 1000 & (sleep 1000 &); sleep 1000",
    ),
    CommandBehaviour.NO_PROGRAM: ("/bin/nothing",),
}


class RealWorld:
    """A runtime over a busybox image."""

    def __init__(self, host: Preflight, binaries: Binaries, rootfs: Path, base: Path) -> None:
        self.host = host
        self.binaries = binaries
        self.layers: tuple[str, ...] = (str(rootfs),)
        self.cgroup_parent = f"/pyswarm-{leaks.run_name()}"
        self.layout = Layout(base / "state", base / "run", self.cgroup_parent)
        self.runtime = self.another()

    def another(self) -> ConmonRuntime:
        """A second runtime over the same state, as a restarted agent has."""
        return ConmonRuntime(self.binaries, self.layout, self.host.hierarchies)

    async def stats(self, container_id: str) -> Stats | None:
        """What the container uses now; None if it does not exist."""
        reader = Reader(self.host.hierarchies)
        usage = await asyncio.to_thread(reader.read, self.layout.cgroup(container_id))
        return usage.stats if usage else None

    def config(self, container_id: str, behaviour: Behaviour) -> ContainerConfig:
        """A container that behaves as the contract says."""
        memory = 16 << 20 if behaviour is Behaviour.OUT_OF_MEMORY else 0
        return self.custom(container_id, COMMANDS[behaviour], memory=memory)

    def command(self, behaviour: CommandBehaviour) -> Command:
        """A command that behaves as the contract says."""
        return Command(args=RUN_INSIDE[behaviour])

    def custom(
        self,
        container_id: str,
        command: tuple[str, ...],
        *,
        memory: int = 0,
        pids: int = 0,
        log_limits: LogLimits | None = None,
        sources: Mapping[str, str] | None = None,
        binds: tuple[BoundSource, ...] = (),
        **spec: Any,
    ) -> ContainerConfig:
        """A container of one command; `spec` are fields of its ContainerSpec, `sources` and
        `binds` what its mounts show.
        """
        names = ("hosts", "hostname", "resolv.conf")
        task = TaskSpec(
            container_spec=ContainerSpec(image="busybox", command=command, **spec),
            resources=Resources(limits=Limits(memory_bytes=memory, pids=pids)),
        )
        around = Surroundings(
            hostname="tester",
            cgroups_path=self.layout.cgroup(container_id),
            files={f"/etc/{n}": self.runtime.file_path(container_id, n) for n in names},
            passwd=Path(self.layers[-1], "etc/passwd").read_bytes(),
            group=Path(self.layers[-1], "etc/group").read_bytes(),
            devices=devices.of_container(task.container_spec),
            sources=sources or {},
        )
        return ContainerConfig(
            id=container_id,
            oci=oci_config(ImageConfig(), task, self.host.facts, around),
            layers=self.layers,
            log_limits=log_limits or LogLimits(),
            files={name: f"{name} of {container_id}\n".encode() for name in names},
            terminal=bool(spec.get("tty")),
            binds=binds,
        )

    async def close(self) -> None:
        """Remove every container and what the runtime leaves for the next."""
        for found in await self.runtime.found():
            await self.runtime.remove(found.id, keep_logs=False)
        self.runtime.close()
        await asyncio.sleep(0)
        await asyncio.to_thread(cgroups.remove, self.host.hierarchies, self.cgroup_parent)


@pytest.fixture(scope="session")
def host() -> Preflight:
    preflight.prepare()
    return preflight.probe()


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pyswarm-rootfs") as base:
        yield make_rootfs(Path(base) / "rootfs")


@pytest.fixture
async def world(host: Preflight, rootfs: Path) -> AsyncIterator[RealWorld]:
    with tempfile.TemporaryDirectory(prefix="pyswarm-runtime") as base:
        Path(base).chmod(0o711)  # root of a user namespace passes through
        made = RealWorld(host, host.binaries, rootfs, Path(base))
        yield made
        await made.close()
