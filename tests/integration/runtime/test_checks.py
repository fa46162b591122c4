"""Checks of real containers: a command in one, and connections from its network namespace."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.health.base import Outcome, Target
from agent.health.probes import Probes
from agent.network.netns import Namespaces
from pyswarm_core.clock import SECOND
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import HealthConfig
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_running import processes

SERVER = "busybox httpd -f -p 127.0.0.1:80 -h /etc & exec sleep 1000"


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[Namespaces]:
    with closing(Namespaces(tmp_path / "netns")) as made:
        yield made


@pytest.fixture
def probes(world: RealWorld, namespaces: Namespaces) -> Iterator[Probes]:
    with closing(Probes(world.runtime, namespaces.tcp_socket)) as made:
        yield made


class Checked:
    """A container in a network namespace of its own, and what makes its checks."""

    def __init__(self, probes: Probes, pid: int) -> None:
        self._probes = probes
        self.target = Target(TaskId("a1"), pid)

    async def __call__(self, *test: str, timeout: int = 60 * SECOND) -> Outcome:
        return await self._probes(self.target, HealthConfig(test=test, timeout=timeout))


async def container(world: RealWorld, probes: Probes, script: str) -> Checked:
    pid = await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", script)))
    await world.runtime.start("a1")
    return Checked(probes, pid)


async def test_a_server_in_the_containers_namespace_is_found_there_alone(
    world: RealWorld, probes: Probes
) -> None:
    host = Path("/proc/self/ns/net").readlink()
    check = await container(world, probes, SERVER)
    assert Path(f"/proc/{check.target.pid}/ns/net").readlink() != host
    while (found := await check("TCP", "80")).exit_code:
        assert found.output == "port 80: connection refused"
    assert await check("HTTP", "80/passwd") == Outcome(0, "HTTP/1.1 200 OK")
    assert await check("HTTP", "80/none") == Outcome(1, "HTTP/1.1 404 Not Found")
    assert Path("/proc/thread-self/ns/net").readlink() == host, "the loop's thread is back"


async def test_a_command_runs_in_the_container(world: RealWorld, probes: Probes) -> None:
    check = await container(world, probes, "exec sleep 1000")
    assert await check("CMD-SHELL", "echo $PATH | cut -c1-4") == Outcome(0, "/usr")
    assert await check("CMD", "/bin/sh", "-c", "echo no >&2; exit 4") == Outcome(4, "no")
    missing = await check("CMD", "/bin/nothing")
    assert (missing.exit_code, "no such file" in missing.output) == (127, True)


async def test_a_hung_command_is_killed_with_its_children(world: RealWorld, probes: Probes) -> None:
    check = await container(world, probes, "exec sleep 1000")
    hangs = "busybox setsid sleep 1000 & (sleep 1000 &); echo begun; sleep 1000"
    found = await check("CMD-SHELL", hangs, timeout=3 * SECOND)
    assert found == Outcome(-1, "exceeded timeout (3s): begun")
    assert processes(world) == 1


async def test_a_container_that_has_ended_fails_its_checks(
    world: RealWorld, probes: Probes
) -> None:
    check = await container(world, probes, "exec sleep 1000")
    await world.runtime.remove("a1")
    for test in (("TCP", "80"), ("HTTP", "80/"), ("CMD", "true")):
        assert (await check(*test)).exit_code != 0
