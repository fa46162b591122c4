"""What is done to real containers while they run: commands, pauses, limits."""

import asyncio
import signal
from pathlib import Path

import pytest

from agent.runtime.base import CgroupLimits, Command, CommandResult, RuntimeFailed
from agent.runtime.running.execs import Execs
from tests.fixtures.runtime_contract import PATIENCE_S, Behaviour, CommandBehaviour, run, until
from tests.integration.runtime.conftest import RealWorld

HANGS = CommandBehaviour.HANGS


async def execute(world: RealWorld, script: str, **more: object) -> CommandResult:
    """Run a shell script in the container a1."""
    command = Command(args=("/bin/sh", "-c", script), **more)  # type: ignore[arg-type]
    return await world.runtime.exec("a1", command, PATIENCE_S)


def processes(world: RealWorld) -> int:
    """How many live processes the container a1 has; orphans that its first one does not collect
    are dead.
    """
    top = world.host.hierarchies.controller("pids", world.layout.cgroup("a1"))
    assert top
    return sum(len(procs.read_text().split()) for procs in top.glob("**/cgroup.procs"))


def limit(world: RealWorld, v1: str, v2: str) -> str:
    """What the container's cgroup says: a controller and its file on v1, a file on v2."""
    hierarchies = world.host.hierarchies
    controller, _, name = v1.partition("/")
    directory = hierarchies.controller(controller, world.layout.cgroup("a1"))
    assert directory
    return (directory / (name if hierarchies.v1 else v2)).read_text().strip()


def cgroups_of_commands(world: RealWorld) -> list[set[str]]:
    """Their names in each hierarchy."""
    tops = [Path(root + world.layout.cgroup("a1")) for root in world.host.hierarchies.roots()]
    return [{path.name for path in top.glob("exec-*")} for top in tops]


async def test_a_command_has_the_container_s_environment_folder_and_user(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sleep", "1000"), env=("A=1", "B=2"), dir="/tmp")
    await world.runtime.create(config)
    await world.runtime.start("a1")
    script = "id -u; pwd; echo $A $B $HOSTNAME $HOME; cat /proc/self/status"
    said = (await execute(world, script)).output.decode().splitlines()
    assert said[:3] == ["0", "/tmp", "1 2 tester /root"]
    both = [line.split()[1] for line in said if line.startswith(("CapEff", "CapBnd"))]
    assert both[0] == both[1]
    assert "Seccomp:\t2" in said


async def test_a_command_may_have_its_own_environment_folder_and_user(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sleep", "1000"), env=("A=1", "B=2"))
    await world.runtime.create(config)
    await world.runtime.start("a1")
    script = "id -u; id -G; pwd; echo $A $B $HOME; cat /proc/self/status"
    result = await execute(world, script, env=("B=x=y", "C="), user="worker", workdir="/etc")
    said = result.output.decode().splitlines()
    assert said[:4] == ["1000", "1000 1001", "/etc", "1 x=y /home/worker"]
    assert "CapEff:\t0000000000000000" in said
    assert (await execute(world, "id -u; id -g", user="7:8")).output == b"7\n8\n"


async def test_the_user_is_one_of_the_container_s_files_as_they_are_now(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    with pytest.raises(RuntimeFailed, match="unable to find user late"):
        await execute(world, "id -u", user="late")
    await execute(world, "echo late:x:55:55::/:/bin/sh >> /etc/passwd")
    assert (await execute(world, "id -u", user="late")).output == b"55\n"


@pytest.mark.parametrize(
    ("args", "workdir", "code", "said"),
    [
        (("nothing",), "", 127, "executable file not found in $PATH"),
        (("/bin/nothing",), "", 127, "stat /bin/nothing: no such file or directory"),
        (("/etc/passwd",), "", 126, "permission denied"),
        (("/etc",), "", 126, "is a directory"),
        (("/bin/garbage",), "", 126, "exec format error"),
        (("/bin/orphan",), "", 127, "/no/such/interpreter is not in the image"),
        (("/bin/true",), "/no/such", 127, "/no/such"),
    ],
)
async def test_a_program_that_cannot_be_run_says_why(
    world: RealWorld, args: tuple[str, ...], workdir: str, code: int, said: str
) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    command = Command(args=args, workdir=workdir)
    result = await world.runtime.exec("a1", command, PATIENCE_S)
    assert said.lower() in result.output.decode().lower()
    assert result.code == code


async def test_a_program_s_own_code_and_words_are_not_taken_for_the_runtime_s(
    world: RealWorld,
) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    words = "executable file `x` not found in $PATH"
    result = await execute(world, f"echo '{words}' >&2; exit 255")
    assert (result.code, result.output.decode()) == (255, f"{words}\n")
    assert (await execute(world, "kill -9 $$")).code == 128 + signal.SIGKILL


async def test_a_command_is_under_the_container_s_limits_in_every_hierarchy(
    world: RealWorld,
) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    result = await execute(world, "cat /proc/1/cgroup; echo; cat /proc/self/cgroup")
    own, its = (part.splitlines() for part in result.output.decode().split("\n\n"))
    container = world.layout.cgroup("a1") if world.host.hierarchies.v1 else ""
    inside = [line for line in own if line.endswith(f":{container or '/'}")]
    assert inside
    within = [line for line in its if f":{container}/exec-" in line]
    assert len(within) == len(inside)


async def test_cgroups_of_commands_are_used_again(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    top = Path(world.host.hierarchies.roots()[-1] + world.layout.cgroup("a1"))
    (top / "exec-0").mkdir()  # an agent died when it had made one of all
    for _ in range(3):
        assert (await execute(world, "cat /proc/self/cgroup")).code == 0
        assert all(names == {"exec-0"} for names in cgroups_of_commands(world))
    calls = (world.runtime.exec("a1", world.command(HANGS), PATIENCE_S) for _ in range(2))
    tasks = [asyncio.create_task(call) for call in calls]
    await until(lambda: both_run(world))
    assert all(names == {"exec-0", "exec-1"} for names in cgroups_of_commands(world))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert processes(world) == 1


async def test_what_a_command_left_running_is_ended_with_it(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    result = await execute(world, "(sleep 1000 &); echo done")
    assert (result.code, result.output) == (0, b"done\n")
    assert processes(world) == 1


async def test_nothing_is_left_of_a_command_that_is_cancelled(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    for begun in (False, True):
        task = asyncio.create_task(world.runtime.exec("a1", world.command(HANGS), PATIENCE_S))
        if begun:
            await until(lambda: hangs(world))
        else:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await until(lambda: nothing_left(world))


async def both_run(world: RealWorld) -> bool:
    return processes(world) >= 1 + 3 + 3


async def hangs(world: RealWorld) -> bool:
    """Whether the command runs: before it starts others, its process may still be crun's."""
    top = world.host.hierarchies.controller("pids", world.layout.cgroup("a1"))
    assert top
    pids = [pid for procs in top.glob("exec-*/cgroup.procs") for pid in procs.read_text().split()]
    return any(name_of(pid) == "sleep" for pid in pids)


def name_of(pid: str) -> str:
    """What the process runs; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def nothing_left(world: RealWorld) -> bool:
    return processes(world) == 1


async def test_a_command_that_a_dead_agent_began_is_ended_by_the_next(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    dead = Execs(world.binaries, world.layout, world.host.hierarchies)
    begun = dead.begin("a1", world.command(HANGS))
    await until(lambda: hangs(world))
    result = await world.runtime.exec("a1", Command(args=("/bin/true",)), PATIENCE_S)
    assert result.code == 0
    await until(lambda: nothing_left(world))
    assert dead.end(begun, b"", timed_out=False).code == 128 + signal.SIGKILL


async def test_a_command_ends_with_its_container(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    async with asyncio.TaskGroup() as group:
        begun = group.create_task(world.runtime.exec("a1", world.command(HANGS), PATIENCE_S))
        await until(lambda: hangs(world))
        await world.runtime.remove("a1", keep_logs=False)
    assert begun.result().code == 128 + signal.SIGKILL
    assert not begun.result().timed_out


async def test_a_paused_container_uses_no_cpu_and_is_paused_for_the_next_agent(
    world: RealWorld,
) -> None:
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", "while :; do :; done")))
    await world.runtime.start("a1")
    await world.runtime.pause("a1")
    first = await world.stats("a1")
    await asyncio.sleep(0.2)
    second = await world.stats("a1")
    assert first
    assert second
    assert second.cpu_ns == first.cpu_ns
    after = world.another()
    try:
        (found,) = await after.found()
        assert found.paused
        await after.resume("a1")
    finally:
        after.close()

    async def goes_on() -> bool:
        now = await world.stats("a1")
        return now is not None and now.cpu_ns > second.cpu_ns

    await until(goes_on)


async def test_all_limits_change_and_are_taken_away(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    some = CgroupLimits(
        cpu_quota_us=50_000, memory_bytes=64 << 20, memory_and_swap_bytes=64 << 20, pids=33
    )
    await world.runtime.update("a1", some)
    assert limit(world, "pids/pids.max", "pids.max") == "33"
    assert limit(world, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert limit(world, "memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    await world.runtime.update("a1", CgroupLimits())
    assert limit(world, "pids/pids.max", "pids.max") == "max"
    assert limit(world, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")
    stats = await world.stats("a1")
    assert stats
    assert stats.memory_limit_bytes == 0


async def test_a_limit_below_what_is_in_use_is_refused_and_nothing_changes(
    world: RealWorld,
) -> None:
    await run(world, "a1", Behaviour.IGNORES_TERM)
    before = CgroupLimits(memory_bytes=128 << 20, memory_and_swap_bytes=128 << 20, pids=50)
    await world.runtime.update("a1", before)
    await execute(world, "dd if=/dev/zero of=/dev/shm/x bs=1M count=40")
    small = CgroupLimits(memory_bytes=16 << 20, memory_and_swap_bytes=16 << 20, pids=33)
    with pytest.raises(RuntimeFailed, match="cannot change the memory limit"):
        await world.runtime.update("a1", small)
    assert limit(world, "pids/pids.max", "pids.max") == "50"
    assert limit(world, "memory/memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert processes(world) == 1
