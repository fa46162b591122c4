"""A log in several files."""

from pathlib import Path

import pytest

from agent.runtime import logrotate
from tests.unit.agent.runtime.logfiles import LIMITS, record


@pytest.fixture
def rotated_log(tmp_path: Path) -> Path:
    """Six lines in three files: .2 has 1-2, .1 has 3-4, the current one 5-6."""
    log = tmp_path / "log"
    for path, first in ((log.with_name("log.2"), 1), (log.with_name("log.1"), 3), (log, 5)):
        path.write_text(record(first, f"line {first}") + record(first + 1, f"line {first + 1}"))
    logrotate.keep(log, LIMITS)
    return log
