"""The watch over what tests leave behind: it must see what escaped, and nothing else."""

import asyncio
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.playground import cgroups
from tests.fixtures import debian, leaks
from tests.fixtures.source import ROOT

RUN = """
import socket, subprocess, sys
from tests.fixtures import leaks, netns
netns.unshare()
before = leaks.found()
subprocess.run(["ip", "netns", "add", "same"], check=True)
subprocess.run(["ip", "link", "add", "same", "type", "bridge"], check=True)
subprocess.run(["nft", "add table ip same"], check=True)
server = socket.create_server(("127.0.0.1", 2379))
left = leaks.found() - before
# Processes are no run's own: those of the other run are seen.
said = (name for name in left if "same" in name and not name.startswith("process "))
print(*sorted(said), sep=",", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE_S", 0.2)


def test_a_process_that_its_parent_abandoned_is_named() -> None:
    # The shell ends at once, so that init adopts the sleeper.
    shell = ["sh", "-c", "setsid sleep 61 >/dev/null 2>&1 & echo $!"]
    match = r"process \d+ \(sleep 61\)"
    with pytest.raises(pytest.fail.Exception, match=match), leaks.nothing_left():
        printed = subprocess.run(shell, capture_output=True, check=True)
    os.kill(int(printed.stdout), signal.SIGKILL)


def test_a_child_that_nobody_waited_for_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"process \d+"), leaks.nothing_left():
        child = subprocess.Popen(["true"])
    child.wait()


def test_an_open_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=r"open file \d+ -> .*kept"),
        leaks.nothing_left(),
    ):
        kept = os.open(tmp_path / "kept", os.O_CREAT | os.O_RDWR)
    os.close(kept)


def test_what_ends_by_itself_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE_S", 60.0)
    with leaks.nothing_left():
        subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)


def test_what_a_session_keeps_is_no_leak(tmp_path: Path) -> None:
    before = leaks.found()
    kept = os.open(tmp_path / "kept", os.O_CREAT | os.O_RDWR)
    with leaks.nothing_left():
        leaks.keep(leaks.found() - before)
    os.close(kept)


def said_after(commands: Sequence[str]) -> str:
    """What is said of a block that ran these commands and left what they made."""
    with pytest.raises(pytest.fail.Exception) as raised, leaks.nothing_left():
        run_all(commands)
    return f"{raised.value}\n"


def run_all(commands: Sequence[str]) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True)


def test_a_link_a_table_a_mount_and_a_named_namespace_are_named(tmp_path: Path) -> None:
    said = said_after(
        [
            "ip netns add left",
            "ip link add left type bridge",
            "nft add table ip left",
            f"mount -t tmpfs left {tmp_path}",
        ]
    )
    run_all(
        [
            "ip netns delete left",
            "ip link delete left",
            "nft delete table ip left",
            f"umount {tmp_path}",
        ]
    )
    for line in ("netns left", "link left", "nft table ip left", f"mount {tmp_path}"):
        assert f"  {line}\n" in said


def test_a_cgroup_of_this_run_is_named_and_that_of_another_is_not() -> None:
    root = cgroups.roots()[0]
    ours, other = root / f"pyswarm-{leaks.run_name()}-left", root / "pyswarm-other-left"
    said = said_after([f"mkdir {ours} {other}"])
    run_all([f"rmdir {ours} {other}"])
    assert f"  cgroup {ours}\n" in said
    assert str(other) not in said


def test_two_runs_may_use_the_same_names_and_ports() -> None:
    command = [sys.executable, "-c", RUN]
    runs = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [run.stdout.readline() if run.stdout else "" for run in runs]
    for run in runs:
        run.communicate()
    assert said == ["link same,mount /run/netns/same,netns same,nft table ip same\n"] * 2
    assert [run.returncode for run in runs] == [0, 0]


class Held:
    """What a frame holds."""


async def fails(held: list[Held], seen: list[weakref.ref[Held]]) -> None:
    """Fail in a frame that alone holds what was in the list."""
    one = held.pop()
    seen.append(weakref.ref(one))
    raise ValueError("no")


async def fails_in_a_group(held: list[Held], seen: list[weakref.ref[Held]]) -> None:
    """Fail in the group's task, and again because of that."""
    one = held.pop()
    seen.append(weakref.ref(one))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(held, seen))
    except ExceptionGroup as error:
        raise KeyError("again") from error


def test_a_failure_that_is_kept_holds_nothing() -> None:
    held, seen = [Held(), Held()], list[weakref.ref[Held]]()
    with pytest.raises(KeyError) as kept:
        asyncio.run(fails_in_a_group(held, seen))
    assert kept.traceback[-1].locals, "as a report reads them"
    assert [one() is None for one in seen] == [False, False]
    leaks.forget(kept.value)
    assert [one() is None for one in seen] == [True, True]


def test_nothing_goes_on_of_a_step_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE_S", 60.0)
    monkeypatch.setattr(debian, "STEP_TIMEOUT_S", 1.0)
    script = "setsid sleep 61 & sleep 61"
    with leaks.nothing_left(), pytest.raises(subprocess.TimeoutExpired):
        debian.output(*debian.PRIVATE, "sh", "-c", script)
