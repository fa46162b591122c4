"""Records on disk: one file per task. SHELL.

Records are not synced: they must survive a crash of the agent, not one of the host, which ends its
containers too. A file that a power loss left unreadable is renamed and logged.

A record that fits a memory page overwrites the former one, up to a line end: the kernel copies a
page completely or not at all, even if the process is killed. A new inode for each step of a task
was the most expensive part of starting one. A longer record replaces the file by rename.
"""

import errno
import os
from pathlib import Path

import msgspec

from agent.tasks.record import Record
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import TaskId

_log = EventLog("agent.records")
_PAGE = 4096


class Records:
    """The records under one directory, which no other process writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Record)

    def load(self) -> dict[TaskId, Record]:
        """Every readable record."""
        records: dict[TaskId, Record] = {}
        for path in sorted(self._directory.glob("*.json")):
            try:
                line = path.read_bytes().partition(b"\n")[0]
                if not line:
                    path.unlink()  # no effect was carried out, or the host lost power
                    continue
                record = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                _log.error("record.unreadable", path=path, error=error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            records[record.task_id] = record
        return records

    def save(self, record: Record) -> None:
        """Replace the task's record; a reader finds it complete. Raises OSError (disk full)."""
        path = f"{self._directory}/{record.task_id}.json"
        line = self._encoder.encode(record) + b"\n"
        if len(line) <= _PAGE:
            _write(path, os.O_CREAT, line)
        else:
            _write(f"{path}.new", os.O_CREAT | os.O_TRUNC, line)
            os.replace(f"{path}.new", path)  # noqa: PTH105 -- on the hot path of every start

    def forget(self, task_id: TaskId) -> None:
        """Remove the task's record, if there is one."""
        (self._directory / f"{task_id}.json").unlink(missing_ok=True)


def _write(path: str, flags: int, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)
