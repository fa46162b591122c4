"""A log is read once, over rotations and restarts, from files as conmon writes them."""

from pathlib import Path

import pytest

from agent.logdrivers.source import Source
from agent.runtime import logrotate
from agent.runtime.base import LogLimits

LIMITS = LogLimits(max_size=1, max_file=3)


def record(second: int, text: str, flag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02}.000000007+00:00 stdout {flag} {text}\n"


class Written:
    """A log, and the program that reads it."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.noted = directory / "log.sent"
        self.source = Source(self.log, self.noted)

    def write(self, *records: str) -> None:
        """More records of the current file."""
        with self.log.open("a") as file:
            file.write("".join(records))
        logrotate.keep(self.log, LIMITS)

    def rotate(self, *records: str, kept: bool = True) -> None:
        """A new file, as conmon makes it; `kept`: the agent runs."""
        draft = self.log.with_name("log.tmp")
        draft.write_text("".join(records))
        draft.replace(self.log)
        if kept:
            logrotate.keep(self.log, LIMITS)

    def restart(self) -> None:
        """A new reader goes on from the noted position."""
        self.source.close()
        self.source = Source(self.log, self.noted)

    def read(self, most: int = 100, *, ended: bool = False) -> list[str]:
        """The next messages, which are noted as sent."""
        found: list[str] = []
        while len(found) < most:
            message = self.source.end() if ended else self.source.next()
            if message is None:
                break
            found.append(message.text.decode())
            self.source.sent()
        return found


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_a_log_that_does_not_exist_has_no_messages(written: Written) -> None:
    assert written.read() == []
    written.write(record(1, "one"))
    assert written.read() == ["one"]
    assert written.read() == []


def test_what_was_not_noted_is_the_next_message_again(written: Written) -> None:
    written.write(record(1, "one"), record(2, "two"))
    first = written.source.next()
    assert first is not None
    assert written.source.next() == first
    written.restart()
    assert written.read() == ["one", "two"]


@pytest.mark.parametrize("restart", [False, True])
def test_rotations_are_followed(restart: bool, written: Written) -> None:
    written.write(record(1, "one"), record(2, "two"))
    assert written.read(1) == ["one"]
    written.rotate(record(3, "three"))
    written.rotate(record(4, "four"))
    if restart:
        written.restart()
    assert written.read(2) == ["two", "three"]
    if restart:
        written.restart()
    written.rotate(record(5, "five"))
    assert written.read() == ["four", "five"]
    assert written.source.skipped == 0


def test_an_open_file_that_was_removed_is_read_to_its_end(written: Written) -> None:
    written.write(record(1, "one"), record(2, "two"))
    assert written.read(1) == ["one"]
    for second in range(3, 8):
        written.rotate(record(second, str(second)))
    assert written.read() == ["two", "5", "6", "7"]
    assert written.source.skipped == 1


def test_after_a_restart_the_oldest_file_follows_one_that_was_removed(written: Written) -> None:
    written.write(record(1, "one"), record(2, "two"))
    assert written.read(1) == ["one"]
    for second in range(3, 8):
        written.rotate(record(second, str(second)))
    written.restart()
    assert written.read() == ["5", "6", "7"]
    assert written.source.skipped == 1


def test_a_file_with_the_inode_of_a_removed_one_is_another(written: Written) -> None:
    written.write(record(1, "one"), record(2, "two"))
    assert written.read() == ["one", "two"]
    _, _, *position = written.noted.read_bytes().split()
    written.rotate(record(9, "other"), record(9, "line"))
    logrotate.rotated(written.log, 1).unlink()
    new = str(written.log.stat().st_ino).encode()
    old = b"2026-01-02T03:04:01.000000007+00:00"
    written.noted.write_bytes(b" ".join([new, old, *position]))
    written.restart()
    assert written.read() == ["other", "line"]


def test_files_replaced_while_no_agent_runs_are_read_as_far_as_they_exist(
    written: Written,
) -> None:
    written.write(record(1, "one"), record(2, "two"))
    assert written.read(1) == ["one"]
    written.rotate(record(3, "lost"), kept=False)
    written.rotate(record(4, "four"), kept=False)
    written.restart()
    assert written.read() == ["two", "four"]


def test_an_unfinished_line_is_joined_over_a_restart(written: Written) -> None:
    written.write(record(1, "one"), record(2, "be", "P"))
    assert written.read() == ["one"]
    written.restart()
    assert written.read() == []
    written.write(record(3, "gin", "P"), record(4, "ning"), record(5, "next"))
    assert written.read() == ["beginning", "next"]


def test_an_unfinished_line_is_read_at_the_end(written: Written) -> None:
    written.write(record(1, "one"), record(2, "prompt", "P"))
    assert written.read() == ["one"]
    assert written.read(ended=True) == ["prompt"]
    assert written.read(ended=True) == []


@pytest.mark.parametrize("content", ["", "x", "1 2 3", "a b c d", "1 2 -3 4"])
def test_a_damaged_position_begins_at_the_oldest_line(content: str, written: Written) -> None:
    written.write(record(1, "one"))
    written.rotate(record(2, "two"))
    written.noted.write_text(content)
    written.restart()
    assert written.read() == ["one", "two"]
