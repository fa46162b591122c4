"""`volume backup`, `restore` and `cp`: bad input, files of this machine, and progress."""

import asyncio
import gzip
import os
from pathlib import Path

import pytest

from cli.volume.archiving.archives import Source, check_output, target
from cli.volume.archiving.progress import line, warning
from pyswarm_core.errors import InvalidArgument, NotFound
from tests.unit.cli.conftest import Pyswarm

DATA = os.urandom(1 << 20) + bytes(1 << 20)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("backup", "data", "{}/data.tar.xz"),
            "is not valid: expected a name that ends with .tar, .tar.gz, .tgz or .tar.zst",
        ),
        (("backup", "data", "{}/none/data.tar"), 'FILE: no such directory: "{}/none"'),
        (("backup", "data", "{}"), 'FILE: value "{}" is not valid: it is a directory'),
        (("restore", "data", "{}"), 'FILE: value "{}" is not valid: it is a directory'),
        (("restore", "data", "{}/none.tar"), "no such file or directory: {}/none.tar"),
        (("restore", "data", "{}/empty"), '"{}/empty" is empty: expected an archive'),
        (("backup", "data"), "Missing argument 'FILE|-'"),
        (("restore",), "Missing argument 'VOLUME'"),
        (
            ("cp", "a:/b", "c:/d"),
            "copying between volumes is not supported: use `pyswarm volume cp",
        ),
        (("cp", "./a", "./b"), "must specify one volume: VOLUME:PATH"),
        (("cp", "a:", "./b"), 'source: value "a:" is not valid: expected a path, or VOLUME:/PATH'),
        (("cp", "{}/none", "a:/b"), "no such file or directory: {}/none"),
        (("cp", "a:/b", "{}/none/b"), 'no such directory: "{}/none"'),
        (("snapshot", "data"), "not supported: use pyswarm volume backup --stop VOLUME FILE"),
        (("snapshot", "--name", "x", "data"), "snapshots of volumes are not supported"),
        (
            ("clone", "a", "b"),
            "use pyswarm volume backup VOLUME - | pyswarm volume restore OTHER -",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(
    pyswarm: Pyswarm, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "empty").touch()
    ran = pyswarm("volume", *(word.format(tmp_path) for word in words))
    assert ran.code != 0
    assert told.format(tmp_path) in ran.err
    assert "controller" not in ran.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["empty"]


def test_an_archive_is_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(InvalidArgument, match="FILE -: value is a terminal: redirect"):
        check_output("-")


async def write(path: Path, *, complete: bool = True) -> None:
    with target(str(path)) as sink:
        for at in range(0, len(DATA), 100_000):
            await sink.write(DATA[at : at + 100_000])
        if complete:
            await sink.finish()


def read(path: Path) -> bytes:
    source = Source(str(path))
    try:
        return b"".join(source.chunks())
    finally:
        source.close()


NAMES = ("data.tar", "data.tar.gz", "data.tgz", "data.tar.zst", "data")


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_written_is_read_and_nobody_else_reads_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"a former backup")
    await write(path)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert path.stat().st_mode & 0o777 == 0o600
    assert await asyncio.to_thread(read, path) == DATA
    assert (path.stat().st_size < len(DATA)) is (name not in ("data.tar", "data"))


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_not_finished_leaves_the_former_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"a former backup")
    await write(path, complete=False)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"a former backup"


@pytest.mark.parametrize("name", ["data.tar.gz", "data.tar.zst"])
async def test_a_compressed_file_that_is_cut_off_or_damaged_is_refused(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    await write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidArgument, match="is damaged or cut off"):
        await asyncio.to_thread(read, path)
    path.write_bytes(whole[:5000] + b"damage" + whole[5006:])
    with pytest.raises(InvalidArgument, match="is damaged"):
        await asyncio.to_thread(read, path)


async def test_what_is_compressed_is_recognised_without_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(gzip.compress(DATA))
    assert await asyncio.to_thread(read, tmp_path / "data") == DATA


def test_zstd_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotFound, match=r"zstd is not installed: .* or use a name with \.tar\.gz"):
        check_output("data.tar.zst")


def test_a_line_of_progress() -> None:
    assert line(0, 0, 0.0) == "0B"
    assert line(5_000_000, 0, 2.0) == "5MB, 2.5MB/s"
    assert line(5_000_000, 20_000_000, 1.0) == "5MB of 20MB, 5MB/s"
    assert line(5_000_000, 4_000_000, 1.0) == "5MB of 5MB, 5MB/s"


def test_no_terminal_obeys_a_notice() -> None:
    assert warning("tar: \x1b[2J: changed\n") == "Warning: tar:  [2J: changed "
