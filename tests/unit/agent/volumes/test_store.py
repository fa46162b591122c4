"""Copies of volumes on a disk, with an agent that dies between any two steps."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes import store as module
from agent.volumes.store import VolumeStore, anonymous
from pyswarm_core.aio.trees import remove_tree

ID = "v1"


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    found = VolumeStore(tmp_path)
    found.prepare()
    return found


def made(store: VolumeStore, text: str = "from the image") -> Path:
    filling = store.begin(ID)
    (filling / "file").write_text(text)
    return store.finish(ID, "data", filling)


def test_a_copy_is_complete_once_it_is_finished(store: VolumeStore, tmp_path: Path) -> None:
    assert store.complete(ID, "data") is None
    path = made(store)
    assert path == tmp_path / "volumes" / ID / "_data"
    assert store.complete(ID, "data") == path
    assert (path / "file").read_text() == "from the image"
    assert (tmp_path / "volume-records" / ID).read_text() == "data"
    assert (tmp_path / "volumes").stat().st_mode & 0o777 == 0o700


class Killed(Exception):
    pass


STEPS = ("mkdir", "open", "rename", "unlink")


@pytest.mark.parametrize("survived", range(9))
def test_an_agent_that_dies_anywhere_makes_the_copy_again_whole(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    left = survived

    def dying(name: str) -> None:
        real = getattr(Path, name)

        def step(*args: object, **kwargs: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **kwargs)

        monkeypatch.setattr(Path, name, step)

    for name in STEPS:
        dying(name)
    with suppress(Killed):
        made(store, "first")
    monkeypatch.undo()
    path = store.complete(ID, "data")
    if path is None:
        path = made(store, "second")
        assert (path / "file").read_text() == "second"
    else:
        assert (path / "file").read_text() == "first"
    assert [one.name for one in path.parent.iterdir()] == ["_data"]


def test_a_copy_that_somebody_deleted_is_not_replaced(store: VolumeStore) -> None:
    path = made(store)
    (path / "file").unlink()
    path.rmdir()
    with pytest.raises(RuntimeFailed, match=r"volume data: .*_data is no directory any more"):
        store.complete(ID, "data")
    path.parent.rmdir()
    with pytest.raises(RuntimeFailed, match="is no directory any more"):
        store.complete(ID, "data")


def test_a_root_that_became_a_link_is_not_followed(store: VolumeStore, tmp_path: Path) -> None:
    path = made(store)
    (path / "file").unlink()
    path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(RuntimeFailed, match="is no directory any more"):
        store.complete(ID, "data")


def test_a_removed_copy_is_gone_and_its_target_of_links_is_not(
    store: VolumeStore, tmp_path: Path
) -> None:
    path = made(store)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (path / "link").symlink_to(outside)
    store.remove(ID)
    store.remove(ID)
    assert store.complete(ID, "data") is None
    assert not path.parent.exists()
    assert (outside / "kept").exists()


def test_ten_thousand_files_are_removed(store: VolumeStore) -> None:
    path = made(store)
    for number in range(10_000):
        os.mknod(path / f"{number}")
    store.remove(ID)
    assert not path.parent.exists()


def test_an_anonymous_volume_is_empty_again_for_each_preparation(tmp_path: Path) -> None:
    path = anonymous(tmp_path / "task", 0)
    (path / "file").touch()
    assert anonymous(tmp_path / "task", 0) == path
    assert not list(path.iterdir())
    assert anonymous(tmp_path / "task", 1) != path


def received(store: VolumeStore, text: str) -> None:
    (store.begin_receiving(ID) / "file").write_text(text)
    store.replace(ID, "data")


def test_what_is_received_is_the_copy(store: VolumeStore, tmp_path: Path) -> None:
    received(store, "first")
    path = store.complete(ID, "data")
    assert path is not None
    assert (path / "file").read_text() == "first"
    assert (tmp_path / "volume-records" / ID).read_text() == "data"
    received(store, "second")
    assert (path / "file").read_text() == "second"
    assert [one.name for one in path.parent.iterdir()] == ["_data"]


def dying_after(monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    """The agent dies at the next step after so many on files."""
    left = survived

    def dying(holder: object, name: str) -> None:
        real = getattr(holder, name)

        def step(*args: object, **kwargs: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **kwargs)

        monkeypatch.setattr(holder, name, step)

    for name in STEPS:
        dying(Path, name)
    for name in ("remove_tree", "_sync", "_sync_file_system"):
        dying(module, name)
    dying(module._LIBC, "renameat2")


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("survived", range(16))
@pytest.mark.parametrize("had", [True, False], ids=["replaced", "new"])
def test_an_agent_that_dies_anywhere_has_the_former_copy_or_the_new_one(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch, survived: int, had: bool, exchanges: bool
) -> None:
    if had:
        made(store, "old")
    if not exchanges:
        real = module._LIBC.renameat2
        monkeypatch.setattr(module._LIBC, "renameat2", lambda *_: real(0, b"", 0, b"", 1 << 20))
    with monkeypatch.context() as patch:
        dying_after(patch, survived)
        with suppress(Killed):
            received(store, "new")
    store.tidy(ID)
    path = store.complete(ID, "data")
    if path is None:
        assert not had
        path = made(store, "again")
        assert (path / "file").read_text() == "again"
    else:
        assert (path / "file").read_text() in (("old", "new") if had else ("new",))
    assert [one.name for one in path.parent.iterdir()] == ["_data"]
    received(store, "last")
    assert (path / "file").read_text() == "last"


def test_a_record_without_its_directory_is_received_again(store: VolumeStore) -> None:
    path = made(store)
    remove_tree(path)
    received(store, "back")
    assert store.complete(ID, "data") == path
    assert (path / "file").read_text() == "back"


def test_an_attempt_that_nobody_waits_for_records_no_other(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was cancelled, or a disk took too long: the thread goes on, and another attempt
    begins before it has ended.
    """
    first = store.begin(ID)
    (first / "file").write_text("first")
    others: list[Path] = []

    def slow(_: Path) -> None:
        if not others:
            others.append(store.begin(ID))

    monkeypatch.setattr(module, "_sync_file_system", slow)
    with pytest.raises(FileNotFoundError):
        store.finish(ID, "data", first)
    assert store.complete(ID, "data") is None
    (second,) = others
    (second / "file").write_text("second")
    assert (store.finish(ID, "data", second) / "file").read_text() == "second"


def test_the_slower_one_of_two_attempts_replaces_no_copy(store: VolumeStore) -> None:
    first = store.begin(ID)
    (first / "file").write_text("first")
    data = store.finish(ID, "data", first)
    later = data.parent / "filling.0"
    later.mkdir()
    assert store.finish(ID, "data", later) == data
    assert (data / "file").read_text() == "first"
    assert [one.name for one in data.parent.iterdir()] == ["_data"]
