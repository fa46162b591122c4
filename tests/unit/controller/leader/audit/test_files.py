"""The audit log in files: whole, private, bounded, and continued by the next term."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from controller.config import Config, FileLimits
from controller.leader.audit import files
from controller.leader.audit.files import AuditFile
from controller.leader.audit.log import AuditLog
from controller.metrics import Metrics
from pyswarm_core.clock import Instant
from pyswarm_core.identity.audit import AuditClass, AuditRecord


def settings(folder: Path, limits: FileLimits) -> Config:
    return Config(state_dir=folder, name="one", advertise_addr="one:1", audit_files=limits)


def add(log: AuditLog, count: int, text: str = "") -> None:
    for _ in range(count):
        record = AuditRecord(
            sequence=0, at=Instant(10**18), caller_kind="user", caller="alice", address=text
        )
        log.append(AuditClass.CHANGE, record)
    log.publish()


def lines(path: Path) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


async def written(file: AuditFile, log: AuditLog, last: int) -> None:
    """Run the file until it has that record."""
    task = asyncio.create_task(file.run(log))
    async with asyncio.timeout(60):
        while file.last() < last:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    task.cancel()


async def test_records_are_json_lines_that_only_the_owner_reads(tmp_path: Path) -> None:
    log, file = AuditLog(), AuditFile(settings(tmp_path, FileLimits()), Metrics())
    add(log, 3)
    await written(file, log, 3)
    found = lines(file.path)
    assert [one["Sequence"] for one in found] == [1, 2, 3]
    assert found[0]["Time"] == "2001-09-09T01:46:40.000000000Z"
    assert (found[0]["Caller"], found[0]["Result"]) == ("alice", "ok")
    assert file.path.stat().st_mode & 0o777 == 0o600


async def test_the_next_term_goes_on_after_the_last_record(tmp_path: Path) -> None:
    log, file = AuditLog(), AuditFile(settings(tmp_path, FileLimits()), Metrics())
    add(log, 2)
    await written(file, log, 2)
    with file.path.open("a") as cut:
        cut.write('{"Sequence":3,"Ti')  # the machine died
    add(log, 2)
    await written(file, log, 4)
    text = file.path.read_bytes()
    assert text.count(b'"Sequence":2,') == 1
    assert text.count(b'"Sequence":4,') == 1


async def test_a_log_that_is_shorter_than_the_file_is_written_from_its_end(tmp_path: Path) -> None:
    log, file = AuditLog(), AuditFile(settings(tmp_path, FileLimits()), Metrics())
    add(log, 9)
    await written(file, log, 9)
    restored = AuditLog()
    add(restored, 2)
    task = asyncio.create_task(file.run(restored))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        while b'"Sequence":3,' not in file.path.read_bytes().splitlines()[-1]:
            add(restored, 1 if restored.published == 2 else 0)
            await asyncio.sleep(0.05)
    task.cancel()
    assert [one["Sequence"] for one in lines(file.path)] == [*range(1, 10), 3]


async def test_files_are_rotated_by_size_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MIB", 2_000)
    file = AuditFile(settings(tmp_path, FileLimits(max_size=1, max_backups=2)), Metrics())
    log = AuditLog()
    add(log, 60, "x" * 100)
    await written(file, log, 60)
    found = sorted(tmp_path.iterdir())
    assert [path.name for path in found] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(path.stat().st_size <= 2_000 for path in found)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in found)
    numbers = [one["Sequence"] for path in reversed(found) for one in lines(path)]
    assert numbers == list(range(61 - len(numbers), 61))
    assert FileLimits() == FileLimits(max_size=100, max_backups=10)


async def test_a_write_that_fails_is_counted_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RETRY_S", 0.01)
    folder, metrics = tmp_path / "later", Metrics()
    log, file = AuditLog(), AuditFile(settings(folder, FileLimits()), metrics)
    add(log, 2)
    task = asyncio.create_task(file.run(log))
    errors = metrics.audit_file_errors_total
    async with asyncio.timeout(60):
        while not errors._value.get():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        folder.mkdir()
        while file.last() < 2:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    task.cancel()
    assert [one["Sequence"] for one in lines(file.path)] == [1, 2]
