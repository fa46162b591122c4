"""Logs of a container that talks a lot, across rotations and deaths."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, PYSWARM, Fleet, playground

FILES = 4
SIZE = 192 * 1024
TALK = "i=0; while :; do seq $i $((i+99)); i=$((i+100)); sleep 0.1; done"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts that rotate the talker's log every four seconds."""
    own = {
        **PATIENT,
        "PYSWARM_AGENT_LOG_MAX_SIZE": str(SIZE),
        "PYSWARM_AGENT_LOG_MAX_FILE": str(FILES),
    }
    with playground(tmp_path_factory.mktemp("home"), 2, **own) as found:
        yield found


@pytest.fixture(scope="module")
def talker(fleet: Fleet) -> str:
    """A service that counts, a thousand lines a second; its log was rotated as often as it can."""
    fleet("service", "create", "--name", "talker", "--stop-grace-period", "1s",
          "--entrypoint", "sh", IMAGE, "-c", TALK)  # fmt: skip
    fleet.until(lambda: len(files(fleet)) == FILES, "its log is rotated")
    return "talker"


def files(fleet: Fleet) -> list[Path]:
    """The files of the talker's log, each by one name."""
    (task,) = fleet.running("talker")
    found = (fleet.state_dir / task["Node"] / "logs").glob(f"{task['ID']}*")
    return list({path.stat().st_ino: path for path in found}.values())


def numbers(lines: Sequence[str]) -> list[int]:
    """What was counted; every number follows the one before it."""
    found = [int(line) for line in lines]
    assert found == list(range(found[0], found[0] + len(found)))
    return found


def newest_of(fleet: Fleet, talker: str) -> int:
    """The number it has come to. What it says while the last line is read is told as well."""
    return numbers(fleet("service", "logs", "--raw", "--tail", "1", talker).splitlines())[-1]


def test_a_rotated_log_is_whole_and_bounded(fleet: Fleet, talker: str) -> None:
    def whole() -> list[int]:
        return numbers(fleet("service", "logs", "--raw", talker).splitlines())

    fleet.until(lambda: whole()[0] > 0, "its oldest file is dropped")
    newest = newest_of(fleet, talker)
    found = whole()
    assert found[-1] >= newest
    assert len(files(fleet)) <= FILES + 1
    assert all(path.stat().st_size <= SIZE for path in files(fleet))


@pytest.mark.parametrize("count", [0, 1, 700, 6000])
def test_the_last_lines_may_lie_in_several_files(fleet: Fleet, talker: str, count: int) -> None:
    newest = newest_of(fleet, talker)
    lines = fleet("service", "logs", "--raw", "--tail", str(count), talker).splitlines()
    # It talks on while it is read: nothing older than asked for, and nothing left out.
    assert len(lines) >= count
    assert not lines or (numbers(lines)[0] > newest - count and numbers(lines)[-1] >= newest)


def test_since_is_found_in_an_older_file(fleet: Fleet, talker: str) -> None:
    (task,) = fleet.running(talker)
    shell = fleet.pid(task["ID"])
    os.kill(shell, signal.SIGSTOP)  # else a rotation could drop what was read first
    try:
        stamped = fleet("service", "logs", "--raw", "-t", talker).splitlines()
        start, _, _ = stamped[len(stamped) // 2].partition(" ")
        later = fleet("service", "logs", "--raw", "-t", "--since", start, talker).splitlines()
    finally:
        os.kill(shell, signal.SIGCONT)
    expected = [line for line in stamped if line.partition(" ")[0] >= start]
    assert later[: len(expected)] == expected
    numbers([line.partition(" ")[2] for line in later])


@contextmanager
def following(fleet: Fleet, service: str, out: Path) -> Iterator[None]:
    """`service logs --follow` for the length of the block."""
    command = [str(PYSWARM), "service", "logs", "--raw", "--follow", "--tail", "5", service]
    with out.open("wb") as file:
        process = subprocess.Popen(command, env=fleet.environment, stdout=file)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def test_a_followed_log_misses_nothing_over_rotations_and_a_killed_agent(
    fleet: Fleet, talker: str, tmp_path: Path
) -> None:
    (task,) = fleet.running(talker)
    out = tmp_path / "followed"

    def told() -> int:
        lines = out.read_text().split("\n")[:-1]
        return len(lines)

    with following(fleet, talker, out):
        for _ in range(3):
            seen = told()
            fleet.until(lambda n=seen: told() > n + 1500, "it goes on")  # type: ignore[misc]
            fleet.kill(task["Node"])
        seen = told()
        fleet.until(lambda: told() > seen + 3000, "it goes on over rotations")
        time.sleep(0.1)
    # First: another task counts from 0, and that would be no fault of the log.
    assert [again["ID"] for again in fleet.running(talker)] == [task["ID"]]
    numbers(out.read_text().split("\n")[:-1])
