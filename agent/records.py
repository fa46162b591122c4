"""Records on disk: one file per task, and one beside it for results of its checks. SHELL.

Records are not synced: they must survive a crash of the agent, not one of the host, which ends its
containers too. A file that a power loss left unreadable is renamed and logged.

A record that fits a memory page overwrites the former one, up to a line end: the kernel copies a
page completely or not at all, even if the process is killed. A new inode for each step of a task
was the most expensive part of starting one. A longer record replaces the file by rename.

Results of checks are many and change nothing else of a record. They have a directory of their own,
which is in memory on most hosts: writing to a disk delays the event loop. The newer one of the two
counts.
"""

import errno
import os
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agent.health.verdict import Check
from agent.tasks.record import Record
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import TaskId

_log = EventLog("agent.records")
_PAGE = 4096


class _Results(msgspec.Struct, frozen=True):
    """The part of a record that results of checks change."""

    health: Check | None = None
    readiness: Check | None = None


class Records:
    """The records under one directory, and results under another, which no other process writes."""

    def __init__(self, directory: Path, results: Path) -> None:
        self._directory = directory
        self._results = results
        directory.mkdir(parents=True, exist_ok=True)
        results.mkdir(parents=True, exist_ok=True)
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Record)
        self._results_decoder = msgspec.json.Decoder(_Results)

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
                if record.login:  # an earlier version stored logins
                    path.unlink()
                    self.save(record)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                _log.error("record.unreadable", path=path, error=error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            records[record.task_id] = self._with_results(record)
        for path in self._results.iterdir():
            if path.name not in records:
                path.unlink(missing_ok=True)
        return records

    def _with_results(self, record: Record) -> Record:
        try:
            line = (self._results / record.task_id).read_bytes().partition(b"\n")[0]
            found = self._results_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError):
            return record  # none, or the host lost power: its containers ended
        return replace(
            record,
            health=_newer(record.health, found.health),
            readiness=_newer(record.readiness, found.readiness),
        )

    def save(self, record: Record) -> None:
        """Replace the task's record; a reader finds it complete, without its registry login. Raises
        OSError (disk full).
        """
        path = f"{self._directory}/{record.task_id}.json"
        _replace(path, self._encoder.encode(record.durable) + b"\n")

    def save_results(self, record: Record) -> None:
        """Save the results of the task's checks, of a record that is saved otherwise. Raises
        OSError.
        """
        results = _Results(record.health, record.readiness)
        _replace(f"{self._results}/{record.task_id}", self._encoder.encode(results) + b"\n")

    def forget(self, task_id: TaskId) -> None:
        """Remove the task's record, if there is one."""
        (self._results / task_id).unlink(missing_ok=True)
        (self._directory / f"{task_id}.json").unlink(missing_ok=True)


def _newer(check: Check | None, found: Check | None) -> Check | None:
    return found if check and found and found.made > check.made else check


def _replace(path: str, line: bytes) -> None:
    if len(line) <= _PAGE:
        _write(path, os.O_CREAT, line)
    else:
        _write(f"{path}.new", os.O_CREAT | os.O_TRUNC, line)
        os.replace(f"{path}.new", path)  # noqa: PTH105 -- on the hot path of every start


def _write(path: str, flags: int, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)
