"""The audit log in files: JSON lines, rotated by size. SHELL over one directory.

Level-triggered: a leader continues after the last record of its file, and writes those of other
controllers too as long as the store has them. A write that fails is tried again.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import closing
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

from controller.config import Config, FileLimits
from controller.leader.audit.log import AuditLog
from controller.metrics import Metrics
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import reason_of
from pyswarm_core.identity.audit import AuditRecord, json_line

_log = EventLog("controller.audit")

FILE = "audit.log"
RETRY_S = 5.0
_MIB = 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024
"""More than the JSON of the largest record."""


class AuditFile:
    """The files of one controller."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self.path = config.state_dir / FILE
        self._limits = config.audit_files
        self._metrics = metrics

    async def run(self, log: AuditLog) -> None:
        """Write the records of a term, for ever."""
        # The log of a store that was restored from an older backup is shorter than the file.
        position = min(log.published, await asyncio.to_thread(self.last))
        for records in log.kept(position):
            await self._write(records)
            position = records[-1].sequence if records else position
        async for records in log.follow(position):
            await self._write(records)

    def last(self) -> int:
        """The sequence of the last record in the file; 0: there is none."""
        for path in (self.path, self.path.with_name(f"{FILE}.1")):
            for line in reversed(_tail(path).split(b"\n")):
                try:
                    found = msgspec.json.decode(line, type=_Line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # cut, by the disk's end or at the beginning of what was read
                return found.Sequence
        return 0

    async def _write(self, records: Sequence[AuditRecord]) -> None:
        left = list(records)
        while left:
            try:
                await asyncio.to_thread(self._append, left)
            except OSError as error:
                self._metrics.audit_file_errors_total.inc()
                _log.error("audit.file_failed", every_s=60, path=self.path, reason=reason_of(error))
                await asyncio.sleep(RETRY_S)

    def _append(self, records: list[AuditRecord]) -> None:
        """Write the records, and remove each that is written from the list."""
        with closing(_Rotating(self.path, self._limits)) as file:
            while records:
                file.emit(logging.makeLogRecord({"msg": json_line(records[0])}))
                del records[0]


class _Line(msgspec.Struct):
    Sequence: int


class _Rotating(RotatingFileHandler):
    """Files that only their owner may read; errors are the caller's."""

    def __init__(self, path: Path, limits: FileLimits) -> None:
        super().__init__(
            path,
            maxBytes=limits.max_size * _MIB,
            backupCount=limits.max_backups,
            encoding="utf-8",
        )

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # its name there
        raise


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LINE_BYTES_MAX))
            return file.read()
    except OSError:
        return b""
