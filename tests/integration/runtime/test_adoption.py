"""Containers outlive the agent: whoever comes back finds them, their logs and their exits."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from agent.runtime import procs
from agent.runtime.base import ContainerConfig, ContainerState
from agent.runtime.layout import UNSEEN_EXIT_CODE
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from tests.fixtures.runtime_contract import Behaviour, exit_of, run, stop, until
from tests.integration.runtime.conftest import RealWorld

# An agent in a process of its own: makes what it is told, says so, and waits to be killed.
AGENT = """
import asyncio, sys
from pathlib import Path
import msgspec
from agent import preflight
from agent.runtime.base import ContainerConfig
from agent.runtime.crun import ConmonRuntime
from agent.runtime.layout import Layout

async def main(state, run, parent):
    host = preflight.probe()
    runtime = ConmonRuntime(host.binaries, Layout(Path(state), Path(run), parent), host.hierarchies)
    for config in msgspec.json.decode(sys.stdin.buffer.read(), type=list[ContainerConfig]):
        await runtime.create(config)
        await runtime.start(config.id)
    print("ready", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


def run_in_killed_agent(world: RealWorld, configs: list[ContainerConfig]) -> None:
    """Make containers in another process and SIGKILL its whole process group."""
    layout = world.layout
    words = [sys.executable, "-c", AGENT]
    words += [str(layout.logs.parent), str(layout.oci_root.parent), layout.cgroup_parent]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as agent:
        assert agent.stdin
        assert agent.stdout
        agent.stdin.write(msgspec.json.encode(configs))
        agent.stdin.close()
        assert agent.stdout.readline() == b"ready\n"
        os.killpg(agent.pid, signal.SIGKILL)


async def test_killed_agents_containers_run_on_and_are_adopted(world: RealWorld) -> None:
    counting = ("/bin/sh", "-c", "i=0; while sleep 0.05; do i=$((i+1)); echo $i; done")
    configs = [
        world.custom("counts", counting),
        world.custom("ends", ("/bin/sh", "-c", "sleep 0.5; exit 9")),
    ]
    await asyncio.to_thread(run_in_killed_agent, world, configs)
    ended = await exit_of(world.runtime, "ends")
    assert ended.code == 9
    counts, ends = await world.runtime.found()
    assert (counts.state, ends.state) == (ContainerState.RUNNING, ContainerState.STOPPED)
    before = world.layout.log("counts").stat().st_size

    async def log_grew() -> bool:
        return world.layout.log("counts").stat().st_size > before

    await until(log_grew)


async def test_second_runtime_sees_the_exit_of_a_container_the_first_made(
    world: RealWorld,
) -> None:
    await run(world, "a1", Behaviour.RUNS)
    second = world.another()
    (found,) = await second.found()
    assert found.state is ContainerState.RUNNING
    assert (await stop(second, "a1")).code == 143
    second.close()


async def test_container_without_its_monitor_is_ended_and_told(world: RealWorld) -> None:
    pid = await run(world, "a1", Behaviour.RUNS)
    record = world.layout.read_record("a1")
    assert record
    procs.send(record.monitor, signal.SIGKILL)
    assert (await exit_of(world.runtime, "a1")).code == UNSEEN_EXIT_CODE
    assert not procs.is_alive(procs.Process(pid, record.container.started))


async def test_bundle_that_a_dead_agent_left_half_made_is_found_and_removed(
    world: RealWorld,
) -> None:
    world.layout.make_bundle(world.config("half", Behaviour.RUNS))
    (found,) = await world.runtime.found()
    assert (found.id, found.state) == ("half", ContainerState.STOPPED)
    await world.runtime.remove("half")
    assert await world.runtime.found() == ()


async def test_what_a_power_loss_left_of_a_container_is_found_and_removed(
    world: RealWorld,
) -> None:
    bundle = world.layout.make_bundle(world.config("lost", Behaviour.RUNS))
    shutil.rmtree(bundle)
    (found,) = await world.runtime.found()
    assert (found.id, found.state) == ("lost", ContainerState.STOPPED)
    await world.runtime.remove("lost")
    assert not world.layout.writable("lost").exists()
    assert await world.runtime.found() == ()


async def test_container_whose_record_was_never_written_is_removed_whole(
    world: RealWorld,
) -> None:
    await run(world, "a1", Behaviour.RUNS)
    record = world.layout.read_record("a1")
    assert record
    (world.layout.bundle("a1") / "record").unlink()
    await world.runtime.remove("a1", keep_logs=False)
    assert not procs.is_alive(record.monitor)
    assert not procs.is_alive(record.container)
    assert not Path("/proc/self/mountinfo").read_text().count(str(world.layout.bundle("a1")))


async def test_monitor_is_in_a_session_of_its_own(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.RUNS)
    record = world.layout.read_record("a1")
    assert record
    assert os.getsid(record.monitor.pid) == record.monitor.pid != os.getsid(0)


async def test_monitor_is_outside_the_agents_cgroups(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.RUNS)
    record = world.layout.read_record("a1")
    assert record
    own, theirs = (
        dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().split())
        for pid in ("self", record.monitor.pid)
    )
    if world.host.hierarchies.v1:
        own.pop("", None)
    confined = {name for name, path in own.items() if path != "/"}
    assert {theirs[name] for name in confined} <= {world.layout.monitor_cgroup}


async def test_kept_log_is_removed_when_asked_again(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.EXITS_WITH_7)
    await exit_of(world.runtime, "a1")
    await world.runtime.remove("a1")
    log = Path(world.runtime.log_path("a1"))
    assert log.exists()
    assert [batch.texts async for batch in read_log(log, LogQuery())] == [[]]
    await world.runtime.remove("a1", keep_logs=False)
    assert not log.exists()
