"""The watch over what tests leave behind: it must see what escaped, and nothing else."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fixtures import leaks


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


def test_what_ends_by_itself_is_no_leak() -> None:
    with leaks.nothing_left():
        subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)


def test_what_a_session_keeps_is_no_leak(tmp_path: Path) -> None:
    before = leaks.found()
    kept = os.open(tmp_path / "kept", os.O_CREAT | os.O_RDWR)
    with leaks.nothing_left():
        leaks.keep(leaks.found() - before)
    os.close(kept)
