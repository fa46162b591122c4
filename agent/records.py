"""Records on disk: one file per task. SHELL.

Not synced: a record need only survive the agent's death, not the host's (with the host its
containers died too). A file that a power cut left unreadable is set aside and reported.

A record that fits a page of memory is written over the one before, up to a line's end: the kernel
copies a page whole or not at all, even into a process's death, and a new inode for each of a task's
steps was the dearest part of starting one. A longer one replaces the file by rename.
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
    """The records under one directory, which nobody else writes."""

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
                    path.unlink()  # nothing was begun, or its host lost power
                    continue
                record = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                _log.error("record.unreadable", path=path, error=error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            records[record.task_id] = record
        return records

    def save(self, record: Record) -> None:
        """Replace the task's record; it is whole at every moment. Raises OSError (disk full)."""
        path = f"{self._directory}/{record.task_id}.json"
        line = self._encoder.encode(record) + b"\n"
        if len(line) <= _PAGE:
            _write(path, os.O_CREAT, line)
        else:
            _write(f"{path}.new", os.O_CREAT | os.O_TRUNC, line)
            os.replace(f"{path}.new", path)  # noqa: PTH105 -- on the hot path of every start

    def forget(self, task_id: TaskId) -> None:
        """Remove the task's record; one that is not there is no error."""
        (self._directory / f"{task_id}.json").unlink(missing_ok=True)


def _write(path: str, flags: int, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)
