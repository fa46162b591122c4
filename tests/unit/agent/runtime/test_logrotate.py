"""Files of a log are renamed, and the oldest is dropped."""

from pathlib import Path

from agent.runtime import logrotate
from agent.runtime.base import LogLimits


def test_a_log_is_whole_in_the_middle_of_a_rotation(rotated_log: Path) -> None:
    newer = rotated_log.with_name("log.1")
    newer.replace(rotated_log.with_name("log.3"))
    names = [path.name for path in logrotate.files(rotated_log)]
    assert names == ["log.3", "log.2", "log"]


def test_rotation_drops_only_the_oldest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    limits = LogLimits(max_size=1, max_file=3)
    for number in range(5):
        log.write_text(str(number))
        logrotate.rotate(log, limits)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"log.1": "4", "log.2": "3"}


def test_rotation_is_due_at_the_size_and_only_with_several_files(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not logrotate.is_due(log, LogLimits(max_size=1, max_file=2))
    log.write_text("12345")
    assert logrotate.is_due(log, LogLimits(max_size=5, max_file=2))
    assert not logrotate.is_due(log, LogLimits(max_size=6, max_file=2))
    assert not logrotate.is_due(log, LogLimits(max_size=5, max_file=1))
    assert not logrotate.is_due(log, LogLimits())
