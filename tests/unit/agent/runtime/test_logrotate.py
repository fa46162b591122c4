"""Logs are kept in files that are moved to older names, as conmon replaces them."""

from pathlib import Path

import pytest

from agent.runtime import logrotate
from agent.runtime.base import LogLimits
from tests.unit.agent.runtime.logfiles import LIMITS, write_anew


def test_a_log_is_whole_in_the_middle_of_a_rotation(rotated_log: Path) -> None:
    newer = rotated_log.with_name("log.1")
    newer.replace(rotated_log.with_name("log.3"))
    names = [path.name for path in logrotate.files(rotated_log)]
    assert names == ["log.3", "log.2", "log"]


def test_rotation_drops_only_the_oldest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(5):
        write_anew(log, str(number))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "log": "4",
        "log.0": "4",
        "log.1": "3",
        "log.2": "2",
    }
    assert [path.name for path in logrotate.files(log)] == ["log.2", "log.1", "log"]


def test_files_that_were_replaced_while_no_agent_ran_keep_their_bound(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(5):
        write_anew(log, str(number))
    for number in range(5, 9):
        write_anew(log, str(number), None)
    names = [path.name for path in logrotate.files(log)]
    assert names == ["log.2", "log.1", "log.0", "log"]
    assert [path.read_text() for path in logrotate.files(log)] == ["2", "3", "4", "8"]
    logrotate.keep(log, LIMITS)
    assert [path.read_text() for path in logrotate.files(log)] == ["3", "4", "8"]
    logrotate.remove(log)
    assert not list(tmp_path.iterdir())


def test_a_log_is_due_until_its_current_file_has_a_second_name(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not logrotate.is_due(log)
    log.write_text("12345")
    assert logrotate.is_due(log)
    logrotate.keep(log, LIMITS)
    assert not logrotate.is_due(log)
    write_anew(log, "", None)
    assert logrotate.is_due(log)
    assert logrotate.exceeds(log.with_name("log.0"), LogLimits(max_size=4, max_file=2))
    assert not logrotate.exceeds(log.with_name("log.0"), LogLimits(max_size=5, max_file=2))
    assert not logrotate.exceeds(tmp_path / "none", LIMITS)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (LogLimits(), False),
        (LogLimits(max_size=5), False),
        (LogLimits(max_size=5, max_file=2), True),
        (LogLimits(max_file=2), False),
        (LogLimits(max_size=5, max_file=2, stored=False), False),
    ],
)
def test_replaced_files_are_kept_only_of_a_log_of_several_files(
    limits: LogLimits, kept: bool
) -> None:
    assert logrotate.is_kept(limits) is kept
