"""`logs` as users have it: filters, colours, bytes, crowds of readers, and hosts that fail."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1.control_pb2_grpc import ControlStub
from pyswarm_core.logs.limits import LOG_READERS_PER_NODE
from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, IMAGE, PYSWARM, Fleet
from tests.fixtures.terminal import Terminal

pytestmark = pytest.mark.slow

FOLLOWERS = LOG_READERS_PER_NODE // 2
FLOOD_LINE = 1000
FLOOD_LIMIT_S = 2 * COMMAND_LIMIT_S
"""Until a crowd has read past a flood, while other tests use the processors."""
MEMORY_MAX = 300 << 20
"""Of an agent or controller, which has 50 to 80 MiB without readers."""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Hosts are cut off here."""
    return own_fleet


def run(fleet: Fleet, name: str, script: str, *flags: str) -> str:
    """A container that runs a script; its name."""
    fleet("run", "-d", "--name", name, *flags, "--entrypoint", "sh", IMAGE, "-c", script)
    return name


def raw(fleet: Fleet, *words: str) -> bytes:
    """The bytes that `pyswarm logs` prints."""
    done = subprocess.run(
        [PYSWARM, "logs", *words],
        env=fleet.environment,
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=True,
    )
    return done.stdout


@contextmanager
def following(fleet: Fleet, out: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`pyswarm service logs --follow` for the length of the block; stderr is beside `out`."""
    with out.open("wb") as file, out.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(
            [PYSWARM, "service", "logs", "--follow", *words],
            env=fleet.environment,
            stdout=file,
            stderr=errors,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_all_bytes_come_out_as_they_were_written(fleet: Fleet) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in range(256))
    name = run(
        fleet,
        "bytes",
        f"printf '{octal}'; head -c 300000 /dev/zero; echo; printf 'no end'; sleep 1000",
    )
    fleet.until(lambda: raw(fleet, "-n", "1", name) == b"no end", "it has written")
    everything = bytes(range(256)) + bytes(300_000) + b"\nno end"
    assert raw(fleet, name) == everything
    assert raw(fleet, "--until", "1h", name) == b""
    fleet("rm", "-f", name)


def test_lines_are_chosen_by_pattern_time_and_number(fleet: Fleet) -> None:
    # conmon reads both streams in no order: each begins once the lines of the other are read.
    wait = "until [ -e /{} ]; do sleep 0.05; done"
    script = f"seq 1 2000; {wait.format(1)}; echo error >&2; {wait.format(2)}; seq 2001 3000"
    name = run(fleet, "count", f"{script}; sleep 1000")
    fleet.until(lambda: raw(fleet, "-n", "1", name) == b"2000\n", "it has counted")
    fleet("exec", name, "touch", "/1")
    fleet.until(lambda: fleet.run("logs", "-n", "1", name).err == "error\n", "it has failed")
    fleet("exec", name, "touch", "/2")
    fleet.until(lambda: raw(fleet, "-n", "1", name) == b"3000\n", "it has counted further")
    done = fleet.run("logs", "--grep", "^(1.*9|error)$", "--tail", "3", name)
    assert (done.out, done.err) == ("1989\n1999\n", "error\n")
    stamped = raw(fleet, "-t", "--grep", "^(1000|1999)$", name).decode().splitlines()
    first, last = (line.split()[0] for line in stamped)
    between = raw(fleet, "--since", first, "--until", last, "--grep", "00$", name).split()
    assert {b"1000", b"1900"} <= set(between)
    assert raw(fleet, "--until", last, "--grep", "999$", "--tail", "1", name) == b"1999\n"
    assert fleet.refused("logs", "--grep", "(", name).startswith(
        'Error: --grep: value "(" is not valid: expected a regular expression of RE2'
    )
    assert fleet.refused("logs", "nothing").startswith("Error: No such container: nothing: ")
    # The end that was requested, though it writes nothing more.
    assert fleet("logs", "-f", "--until=-1s", "--tail", "1", name) == "3000"
    fleet("rm", "-f", name)


def test_previous_is_the_log_before_a_restart(fleet: Fleet) -> None:
    name = run(fleet, "again", "echo >>/starts; wc -l </starts; exec sleep 1000")
    fleet.until(lambda: raw(fleet, name) == b"1\n", "it has started")
    assert fleet.refused("logs", "--previous", name) == (
        f'Error: no previous container of "{name}": it was never restarted or replaced\n'
    )
    fleet("restart", "-t", "1", name)
    fleet.until(lambda: raw(fleet, name) == b"1\n2\n", "it has started again")
    assert raw(fleet, "--previous", name) == b"1\n"
    fleet("rm", "-f", name)


def test_each_replica_has_a_colour_on_a_terminal_alone(fleet: Fleet) -> None:
    fleet("service", "create", "--name", "pair", "--replicas", "2", "--stop-grace-period", "0s",
          "--entrypoint", "sh", IMAGE, "-c", "echo ready; sleep 1000")  # fmt: skip
    fleet.until(lambda: raw(fleet, "pair").count(b"| ready\n") == 2, "both have written")
    plain = raw(fleet, "pair").decode().splitlines()
    assert "\x1b" not in "".join(plain)
    prefixes = {line.removesuffix("ready") for line in plain}
    words = [str(PYSWARM), "logs", "pair"]
    with Terminal(words, fleet.environment, columns=200) as terminal:
        assert terminal.ended() == 0
        seen = terminal.shown
    for code, prefix in zip((36, 33), [line.removesuffix("ready") for line in plain], strict=True):
        assert f"\x1b[{code}m{prefix}\x1b[0mready" in seen
    own = fleet.environment
    fleet.environment = {**own, "NO_COLOR": "1"}
    try:
        with Terminal(words, fleet.environment, columns=200) as terminal:
            assert terminal.ended() == 0
            assert "\x1b" not in terminal.shown
    finally:
        fleet.environment = own
    assert len(prefixes) == 2
    assert raw(fleet, "--no-log-prefix", "pair") == b"ready\nready\n"
    fleet("service", "rm", "pair")


class Crowd:
    """Followers of one container, on one connection; only every twentieth is ever read."""

    def __init__(self, stub: Any, name: str, count: int) -> None:
        request = pb.LogsRequest(ref=name, follow=True, tail=0, container=True)
        self.calls = [stub.Logs(request) for _ in range(count)]

    async def until_all_hear(self, text: bytes) -> None:
        """Read until each follower that reads has had a line of this text."""
        async with asyncio.timeout(FLOOD_LIMIT_S), asyncio.TaskGroup() as group:
            for call in self.calls[::20]:
                group.create_task(self._hear(call, text))

    async def _hear(self, call: Any, text: bytes) -> None:
        while text not in (await call.read()).lines.texts:
            pass


def memory(pid: int) -> int:
    """The largest resident memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.timeout(2 * FLOOD_LIMIT_S)
@pytest.mark.parametrize(
    "size", [70_000_000, pytest.param(1_000_000_000, marks=pytest.mark.nightly)]
)
async def test_a_crowd_follows_a_flood_and_memory_is_bounded(fleet: Fleet, size: int) -> None:
    # It floods once it is told to, through a file of its own.
    line = "x" * (FLOOD_LINE - 1)
    name = run(
        fleet,
        "flood",
        f"until [ -e /go ]; do echo waits; sleep 0.5; done; yes {line} | head -c {size};"
        " while :; do echo over; sleep 0.5; done",
    )
    (task,) = fleet.running(name)
    socket = fleet.run_dir / "pyswarm.sock"
    async with channel(f"unix:{socket}", None, aio=True) as connection:
        stub = ControlStub(connection)
        crowd = Crowd(stub, name, FOLLOWERS)
        await crowd.until_all_hear(b"waits")
        await asyncio.to_thread(fleet, "exec", name, "touch", "/go")
        await crowd.until_all_hear(b"over")
        # The container did not wait for those that do not read.
        refused = await asyncio.to_thread(fleet.refused, "logs", "-f", name)
        for call in crowd.calls:
            call.cancel()
    host = task["Node"]
    assert f"logs of node {host} are missing: " in refused
    assert f"{FOLLOWERS} readers of logs" in refused
    assert "which is the limit for one caller: end some" in refused
    files = list((fleet.state_dir / host / "logs").glob(f"{task['ID']}*"))
    sizes = {path.stat().st_ino: path.stat().st_size for path in files}  # one has two names
    assert len(sizes) <= 4
    assert sum(sizes.values()) < 60_000_000
    assert memory(fleet.daemon(host)) < MEMORY_MAX
    assert memory(fleet.daemon("host1", "controller")) < MEMORY_MAX
    fleet("rm", "-f", name)


def test_a_follower_goes_on_though_a_host_is_gone(fleet: Fleet, tmp_path: Path) -> None:
    fleet("service", "create", "--name", "both", "--mode", "global", "--stop-grace-period", "0s",
          "--entrypoint", "sh", IMAGE,
          "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done")  # fmt: skip
    out = tmp_path / "out"

    def lines() -> list[tuple[str, int]]:
        """The task with its host, and the number, of each line."""
        found = [line.split() for line in out.read_text().split("\n")[:-1]]
        return [(task, int(number)) for task, _, number in found]

    def told(host: str) -> list[int]:
        return [number for task, number in lines() if task.endswith(f"@{host}")]

    with following(fleet, out, "--tail", "1", "both") as process:
        fleet.until(lambda: told("host2") and told("host3"), "both write")
        fleet("playground", "cut", "host3")
        fleet.until(lambda: b"host3" in out.with_suffix(".err").read_bytes(), "the loss is told")
        seen = len(told("host2"))
        fleet.until(lambda: len(told("host2")) > seen + 10, "the others go on")
        done = fleet.run("logs", "--tail", "1", "both")
        assert "@host2" in done.out
        (warning,) = [line for line in done.err.split("\n") if "host3" in line]
        assert warning.startswith("warning: logs of node host3 are missing: ")
        fleet("playground", "heal", "host3")
        seen = len(told("host3"))
        fleet.until(lambda: len(told("host3")) > seen + 10, "it goes on after it came back")
        assert process.poll() is None
    # Nothing is lost or repeated. The task of the host that was cut off may have been replaced.
    for one in {task for task, _ in lines()}:
        numbers = [number for task, number in lines() if task == one]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    fleet("service", "rm", "both")
