"""Volumes whose file system hangs: they fail their own tasks, and can be released and removed."""

import asyncio
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.outbox import Outbox
from agent.runtime.base import RuntimeFailed
from agent.volumes import measuring as measuring_module
from agent.volumes.child import mounts_below
from pyswarm_core.clock import SECOND
from pyswarm_core.volumes.mounts import Driver, Mount, MountType
from tests.fixtures.hung import hung_file_system
from tests.integration.runtime.test_volume_drivers import (
    SIZE,
    Host,
    host,
    measuring,
    names,
    record,
)

__all__ = ["host"]


@contextmanager
def hung_volume(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The options of a volume that hangs."""
    directory = tmp_path / "hung"
    directory.mkdir()
    with hung_file_system(directory):
        yield {"type": "none", "o": "bind", "device": str(directory)}


async def test_a_file_system_that_hangs_fails_its_task_and_no_other(
    host: Host, tmp_path: Path
) -> None:
    agent = host.agent(answer=5 * SECOND)
    with hung_volume(tmp_path) as options:
        work = [asyncio.ensure_future(host.ready(agent, options, "stuck")) for _ in range(3)]
        try:
            assert names(await host.ready(agent, SIZE)) == ["of-image"]
        finally:
            failed = await asyncio.gather(*work, return_exceptions=True)
        told = "volume stuck: the file system has not answered for 5s"
        assert [str(error) for error in failed] == [told] * 3
        await agent.release("idstuck", lambda: ())
        assert mounts_below(str(host.path("stuck"))) == []


async def test_a_volume_that_hangs_can_be_removed(host: Host, tmp_path: Path) -> None:
    agent = host.agent(answer=5 * SECOND)
    with hung_volume(tmp_path) as options:
        with suppress(RuntimeFailed):
            await host.ready(agent, options)
        assert mounts_below(str(host.path())) != []
        await host.agent(answer=5 * SECOND).remove("iddata")
        assert mounts_below(str(host.path())) == []
        assert names(host.state / "volumes") == []


@pytest.mark.parametrize("removed", [False, True])
async def test_a_volume_is_detached_while_a_process_that_cannot_be_killed_has_its_lock(
    host: Host, removed: bool
) -> None:
    """As one does that waits in the kernel for a server."""
    await host.ready(host.agent(), {"type": "tmpfs", "device": "x"})
    late = host.agent(answer=2 * SECOND)
    lock = os.open(host.path(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if removed:
            await late.remove("iddata")
        else:
            await late.release("iddata", lambda: ())
        assert mounts_below(str(host.state)) == []
    finally:
        os.close(lock)


async def test_a_bind_whose_source_hangs_fails_its_task(host: Host, tmp_path: Path) -> None:
    agent = host.agent(answer=5 * SECOND)
    with hung_volume(tmp_path) as options:
        mount = Mount(type=MountType.BIND, source=options["device"], target="/data")
        with pytest.raises(RuntimeFailed, match=r'config for type "bind": .*has not answered'):
            await agent.ready(record(mount, Driver()), (), lambda text: None)


async def test_a_volume_that_hangs_delays_no_measurement_of_another(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring_module, "VOLUME_MEASURE_MAX", 5 * SECOND)
    agent = host.agent()
    await host.ready(agent, {}, "plain")
    shown = tmp_path / "hung"
    shown.mkdir()
    bound = {"type": "none", "o": "bind", "device": str(shown)}
    await host.ready(agent, bound)
    await agent.release("iddata", lambda: ())
    with hung_file_system(shown):
        with suppress(RuntimeFailed):
            await host.ready(host.agent(answer=SECOND), bound)
        agent.mounts.find()
        assert "iddata" in agent.mounts.mounted
        work = measuring(agent, Outbox())
        for _ in range(2):
            await work.step()
        assert [name for name, _ in work.measured.values()] == ["plain"]
        await agent.release("iddata", lambda: ())


async def test_an_agent_ends_while_volumes_hang(host: Host, tmp_path: Path) -> None:
    """A program that waits for volumes that hang ends at once when it is cancelled."""
    words = [sys.executable, "-m", "tests.integration.runtime.waiting_agent",
             str(host.state), str(host.run), str(host.image), str(tmp_path / "hung")]  # fmt: skip
    (tmp_path / "hung").mkdir()
    with hung_file_system(tmp_path / "hung"):
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"waiting\n"
            process.terminate()
            assert await process.wait() == 0
