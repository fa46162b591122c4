"""The size of a container's writable layer, from an upper directory made by hand."""

import os
from pathlib import Path

import pytest

from agent.files import sizes
from agent.files.sizes import TooMany, written
from agent.runtime.base import Rootfs
from pyswarm_core.aio.archives.limits import SIZE_ENTRIES_MAX


def parts(upper: Path) -> list[int]:
    rootfs = Rootfs(descriptor=-1, close=lambda: None, overlay="", upper=str(upper), layers=())
    return list(written(rootfs))


def test_files_count_with_their_length_and_directories_with_nothing(tmp_path: Path) -> None:
    assert parts(tmp_path) == [0]
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_bytes(b"x" * 1_000)
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 1 << 20)
    assert parts(tmp_path) == [1_000 + (1 << 20)]


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 10)
    for name in ("two", "three"):
        os.link(tmp_path / "one", tmp_path / name)
    assert parts(tmp_path) == [10]


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    (tmp_path / "outside").write_bytes(b"x" * 10_000)
    (upper / "link").symlink_to("../outside")
    (upper / "up").symlink_to("..")
    assert parts(upper) == [len("../outside") + len("..")]


def test_work_comes_in_parts_and_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SIZE_ENTRIES_MAX == 1_000_000
    monkeypatch.setattr(sizes, "ENTRIES_AT_ONCE", 2)
    for number in range(4):
        (tmp_path / str(number)).write_bytes(b"x")
    assert parts(tmp_path) == [1, 3, 4]
    monkeypatch.setattr(sizes, "SIZE_ENTRIES_MAX", 4)
    assert parts(tmp_path)[-1] == 4
    monkeypatch.setattr(sizes, "SIZE_ENTRIES_MAX", 3)
    with pytest.raises(TooMany):
        parts(tmp_path)


def test_very_many_links_and_very_deep_directories_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
        os.link(tmp_path / name, tmp_path / f"{name}-too")
    monkeypatch.setattr(sizes, "ARCHIVE_LINKS_MAX", 1)
    with pytest.raises(TooMany):
        parts(tmp_path)
    monkeypatch.undo()
    assert parts(tmp_path) == [0]
    (tmp_path / "d" / "d").mkdir(parents=True)
    monkeypatch.setattr(sizes, "ARCHIVE_DEPTH_MAX", 1)
    with pytest.raises(TooMany):
        parts(tmp_path)
