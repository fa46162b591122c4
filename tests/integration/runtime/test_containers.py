"""What a container sees of its config: user, files, limits, filters; and what it cannot escape."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.runtime import mounts
from agent.runtime.base import RuntimeFailed
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from pyswarm_core.logs.lines import PARTIAL, STDERR
from pyswarm_core.specs import Ulimit
from tests.fixtures.runtime_contract import PATIENCE_S, Behaviour, exit_of, run, until
from tests.integration.runtime.conftest import COMMANDS, RealWorld


async def output(world: RealWorld, script: str, **spec: object) -> str:
    """What a shell script in a container prints, both streams."""
    return written(await lines_of(world, script, **spec)).decode()


async def lines_of(world: RealWorld, script: str, **spec: object) -> list["Line"]:
    """The lines of a shell script in a container."""
    config = world.custom("a1", ("/bin/sh", "-c", script), **spec)  # type: ignore[arg-type]
    await world.runtime.create(config)
    await world.runtime.start("a1")
    await exit_of(world.runtime, "a1")
    return await lines(world, "a1")


class Line(NamedTuple):
    """A line of a container: of which stream, and whether it has no newline."""

    stream: str
    is_partial: bool
    text: bytes


async def lines(world: RealWorld, container_id: str) -> list[Line]:
    log = Path(world.runtime.log_path(container_id))
    return [
        Line("stderr" if mark & STDERR else "stdout", bool(mark & PARTIAL), text)
        async for batch in read_log(log, LogQuery())
        for mark, text in zip(batch.marks, batch.texts, strict=True)
    ]


def written(lines: Iterable[Line]) -> bytes:
    """The bytes that these lines are."""
    return b"".join(line.text + b"\n" * (not line.is_partial) for line in lines)


async def test_any_bytes_are_read_as_they_were_written(world: RealWorld) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in range(256))
    script = f"printf '{octal}'; head -c 200000 /dev/zero; printf '\\nlast'"
    everything = bytes(range(256)) + bytes(200_000) + b"\nlast"
    assert written(await lines_of(world, script)) == everything


async def test_output_without_a_final_newline_is_read(world: RealWorld) -> None:
    found = await lines_of(world, "echo one; printf two; printf oops >&2")
    for stream, text in (("stdout", b"one\ntwo"), ("stderr", b"oops")):
        assert written(line for line in found if line.stream == stream) == text


async def test_a_prompt_of_a_running_container_is_followed(world: RealWorld) -> None:
    script = "printf 'name? '; sleep 1000"
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", script)))
    await world.runtime.start("a1")
    log = Path(world.runtime.log_path("a1"))
    async with asyncio.timeout(PATIENCE_S):
        async for batch in read_log(log, LogQuery(follow=True)):
            if batch:
                assert batch.texts == [b"name? "]
                break


async def test_a_long_line_stays_whole(world: RealWorld) -> None:
    long = await output(world, "dd if=/dev/zero bs=100000 count=1 2>/dev/null; echo end")
    assert long == "\0" * 100_000 + "end\n"


async def test_user_groups_and_home_come_from_the_image(world: RealWorld) -> None:
    said = await output(world, "id -u; id -G; echo $HOME", user="worker")
    assert said == "1000\n1000 1001\n/home/worker\n"


async def test_working_directory_is_made_and_environment_set(world: RealWorld) -> None:
    said = await output(world, "pwd; echo $NAME $HOSTNAME", dir="/made/up", env=("NAME=x",))
    assert said == "/made/up\nx tester\n"


async def test_own_files_are_mounted(world: RealWorld) -> None:
    said = await output(world, "cat /etc/hosts /etc/hostname /etc/resolv.conf")
    assert said == "hosts of a1\nhostname of a1\nresolv.conf of a1\n"


async def test_read_only_root_refuses_writes(world: RealWorld) -> None:
    said = await output(world, "echo x > /file || echo refused", read_only=True)
    assert "refused\n" in said


async def test_default_confinement_is_in_force(world: RealWorld) -> None:
    said = await output(world, "cat /proc/self/status")
    fields = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert fields["Seccomp"] == "2"
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapBnd"], 16) == 0xA80425FB


async def test_filter_is_in_force_also_when_it_comes_compiled(world: RealWorld) -> None:
    for name in ("first", "second"):
        config = world.custom(name, ("/bin/sh", "-c", "cat /proc/self/status"))
        await world.runtime.create(config)
        await world.runtime.start(name)
        await exit_of(world.runtime, name)
        assert any(line.text == b"Seccomp:\t2" for line in await lines(world, name))
    assert any(world.layout.filters.iterdir())


async def test_ulimit_and_stop_by_init_work(world: RealWorld) -> None:
    said = await output(
        world, "ulimit -n; cat /proc/1/comm", ulimits=(Ulimit("nofile", 77, 77),), init=True
    )
    assert said == "77\ndocker-init\n"


async def test_terminal_is_given(world: RealWorld) -> None:
    assert "terminal" in await output(world, "[ -t 1 ] && echo terminal", tty=True)


async def test_bad_working_directory_says_why(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sh",), dir="/bin/busybox")
    with pytest.raises(RuntimeFailed, match=r"(?i)not a directory"):
        await world.runtime.create(config)


async def test_missing_layer_says_which(world: RealWorld) -> None:
    world.layers = ("/no/such/layer", *world.layers)
    config = world.custom("a1", ("/bin/sh",))
    with pytest.raises(RuntimeFailed, match="/no/such/layer is missing"):
        await world.runtime.create(config)


async def test_script_without_interpreter_fails_start(world: RealWorld) -> None:
    await world.runtime.create(world.custom("a1", ("/bin/orphan",)))
    with pytest.raises(RuntimeFailed, match=r"(?i)no such file"):
        await world.runtime.start("a1")


async def test_fork_bomb_stays_in_its_limit_and_is_removed(world: RealWorld) -> None:
    bomb = "sh -c 'while true; do sleep 1000 & done'; exec sleep 1000"
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", bomb), pids=50))
    await world.runtime.start("a1")

    async def is_full() -> bool:
        stats = await world.stats("a1")
        return stats is not None and 45 <= stats.pids <= 50

    await until(is_full)
    await world.runtime.remove("a1", keep_logs=False)
    assert await world.runtime.found() == ()


async def test_stats_count_memory_processes_and_cpu(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sleep", "1000"), memory=64 << 20)
    await world.runtime.create(config)
    await world.runtime.start("a1")
    stats = await world.stats("a1")
    assert stats
    assert stats.pids == 1
    assert stats.memory_limit_bytes == 64 << 20
    assert stats.cpu_ns > 0


async def test_hundred_layers_fit_in_one_mount(world: RealWorld, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    for number in range(100):
        (deep / str(number)).mkdir(parents=True)
        (deep / str(number) / f"file{number}").touch()
    world.layers = (*(str(deep / str(number)) for number in range(100)), *world.layers)
    assert (await output(world, "echo /file* | wc -w")).strip() == "100"


async def test_image_file_is_read_from_the_uppermost_layer_that_has_it(
    world: RealWorld, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("other")
    layers = (str(tmp_path), *world.layers)
    assert mounts.read_from_layers(layers, "etc/passwd") == b"other"
    assert mounts.read_from_layers(layers, "etc/group") is not None
    assert mounts.read_from_layers(layers, "etc/nothing") is None


async def test_thousand_lines_a_second_all_arrive_in_both_streams(world: RealWorld) -> None:
    script = "for s in 1 2; do seq 1 1000; seq 1 1000 >&2; done"
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", script)))
    await world.runtime.start("a1")
    await exit_of(world.runtime, "a1")
    for stream in ("stdout", "stderr"):
        texts = [line.text for line in await lines(world, "a1") if line.stream == stream]
        assert texts == [str(number).encode() for number in range(1, 1001)] * 2


async def test_signal_reaches_everyone_when_asked(world: RealWorld) -> None:
    await run(world, "a1", Behaviour.RUNS)
    await world.runtime.kill("a1", signal.SIGKILL, everyone=True)
    assert (await exit_of(world.runtime, "a1")).signal == signal.SIGKILL


async def test_a_program_that_cannot_run_is_told_on_a_terminal_too(world: RealWorld) -> None:
    await world.runtime.create(world.custom("a1", COMMANDS[Behaviour.BAD_PROGRAM], tty=True))
    with pytest.raises(RuntimeFailed, match=r"^exec /bin/garbage: exec format error "):
        await world.runtime.start("a1")


async def test_a_program_that_speaks_like_the_runtime_is_believed_to_have_run(
    world: RealWorld,
) -> None:
    said = "echo hello; echo 'exec container process `/x`: Exec format error' >&2; exit 1"
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", said)))
    await world.runtime.start("a1")
    assert (await exit_of(world.runtime, "a1")).error == ""


async def test_a_container_with_directories_nested_too_deep_for_recursion_is_removed(
    world: RealWorld,
) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do mkdir a && cd a || exit 1; i=$((i+1)); done; echo made"
    assert (await output(world, script)).strip() == "made"
    await world.runtime.remove("a1")
    assert await world.runtime.found() == ()
