"""Records on disk: one file per task, replaced by rename. SHELL.

Not synced: a record need only survive the agent's death, not the host's (with the host its
containers died too). A file that a power cut left unreadable is set aside and reported.
"""

import os
from pathlib import Path

import msgspec

from agent.tasks.record import Record
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import TaskId

_log = EventLog("agent.records")


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
                record = self._decoder.decode(path.read_bytes())
            except (msgspec.DecodeError, OSError) as error:
                _log.error("record.unreadable", path=path, error=error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            records[record.task_id] = record
        return records

    def save(self, record: Record) -> None:
        """Replace the task's record; it is whole at every moment. Raises OSError (disk full)."""
        path = f"{self._directory}/{record.task_id}.json"
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, self._encoder.encode(record))
        finally:
            os.close(descriptor)
        os.replace(f"{path}.new", path)  # noqa: PTH105 -- on the hot path of every start

    def forget(self, task_id: TaskId) -> None:
        """Remove the task's record; one that is not there is no error."""
        (self._directory / f"{task_id}.json").unlink(missing_ok=True)
