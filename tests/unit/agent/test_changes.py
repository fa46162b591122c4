"""The changed files of a container, from an upper directory and layers made by hand."""

import os
from pathlib import Path

import pytest

from agent.files import changes as walking
from agent.files.changes import changes
from agent.runtime.base import Rootfs
from pyswarm_core.aio.archives.limits import ARCHIVE_DEPTH_MAX, CHANGES_MAX
from pyswarm_core.errors import Conflict, Exhausted


def listed(top: Path, *mounts: str) -> list[str]:
    rootfs = Rootfs(
        descriptor=-1,
        close=lambda: None,
        overlay="",
        upper=str(top / "upper"),
        layers=(str(top / "newer"), str(top / "older")),
        mounts=mounts,
    )
    return [f"{change.kind} {change.path}" for change in changes(rootfs)]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("upper", "newer", "older"):
        (tmp_path / name).mkdir()
    return tmp_path


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, 0o20000, 0)


def test_what_a_lower_layer_has_is_changed_and_the_rest_added(top: Path) -> None:
    put(top / "older" / "etc" / "old")
    put(top / "newer" / "etc" / "new")
    for name in ("old", "new", "added"):
        put(top / "upper" / "etc" / name)
    assert listed(top) == ["C /etc", "A /etc/added", "C /etc/new", "C /etc/old"]


def test_a_name_that_a_layer_deleted_is_added(top: Path) -> None:
    put(top / "older" / "etc" / "name")
    whiteout(top / "newer" / "etc" / "name")
    put(top / "upper" / "etc" / "name")
    assert listed(top) == ["C /etc", "A /etc/name"]


def test_a_deleted_name(top: Path) -> None:
    put(top / "older" / "etc" / "name")
    whiteout(top / "upper" / "etc" / "name")
    assert listed(top) == ["C /etc", "D /etc/name"]


def test_a_directory_that_is_the_same_has_not_changed(top: Path) -> None:
    put(top / "older" / "etc" / "name", "old")
    put(top / "upper" / "etc" / "name", "new")
    for layer in ("older", "upper"):
        os.utime(top / layer / "etc", (1, 1))
    assert listed(top) == ["C /etc/name"]
    (top / "upper" / "etc").chmod(0o700)
    assert listed(top) == ["C /etc", "C /etc/name"]


def test_what_is_mounted_is_left_out(top: Path) -> None:
    put(top / "older" / "etc" / "name")
    put(top / "upper" / "etc" / "hosts")
    (top / "upper" / "proc").mkdir()
    assert listed(top, "/etc/hosts", "/proc") == []


def test_links_of_the_container_are_not_followed(top: Path, tmp_path: Path) -> None:
    put(tmp_path / "outside" / "secret")
    (top / "upper" / "link").symlink_to(tmp_path / "outside")
    assert listed(top) == ["A /link"]


def test_so_many_changes_are_listed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHANGES_MAX == 100_000
    monkeypatch.setattr(walking, "CHANGES_MAX", 3)
    for number in range(4):
        put(top / "upper" / str(number))
    with pytest.raises(Exhausted, match="more than 3 files differ"):
        listed(top)


def test_very_deep_directories_are_an_error(top: Path) -> None:
    descriptor = os.open(top / "upper", os.O_PATH)
    for _ in range(ARCHIVE_DEPTH_MAX + 3):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_PATH, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    with pytest.raises(Conflict, match="deeper than 256"):
        listed(top)
