"""Trees of any shape are removed, and nothing that they only refer to."""

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime.base import ContainerConfig
from agent.runtime.layout import Layout
from pyswarm_core.aio.trees import remove_tree


@pytest.fixture
def top() -> Iterator[Path]:
    """An empty directory: in memory where possible, because a disk takes seconds for a deep tree.

    The tool `rm` removes it even if the test fails.
    """
    memory = Path("/dev/shm")
    parent = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    made = parent / "top"
    made.mkdir()
    yield made
    subprocess.run(["rm", "-rf", "--", parent], check=True)


def deepen(directory: Path, levels: int, name: str) -> None:
    """Make directories in each other, with a file in each, below paths of any length."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize("name", ["a", "a" * 255])
def test_a_tree_deeper_than_recursion_and_than_a_path_is_removed(top: Path, name: str) -> None:
    deepen(top, 3000, name)
    deepen(top / name, 100, "other")
    remove_tree(top)
    assert not os.path.lexists(top)


def test_a_deep_writable_layer_is_removed_with_its_container(top: Path) -> None:
    layout = Layout(top / "state", top / "run", "/test")
    layout.prepare()
    layout.make_bundle(ContainerConfig(id="c1", layers=(), oci={}))
    deepen(layout.writable("c1") / "upper", 3000, "a")
    layout.remove_files("c1")
    assert layout.ids() == ()


def test_few_descriptors_are_open_at_a_time(top: Path) -> None:
    deepen(top, 300, "a")
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    here = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (here + 50, most))
    try:
        remove_tree(top)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
    assert not top.exists()


def test_a_tree_is_removed_with_all_kinds_of_entries_and_no_link_is_followed(top: Path) -> None:
    kept = top.parent / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (top / "empty").mkdir()
    (top / "full").mkdir()
    (top / "full" / "file").touch()
    (top / "to-directory").symlink_to(kept)
    (top / "to-nothing").symlink_to("nothing")
    os.mkfifo(top / "fifo")
    (top / os.fsdecode(b"\xff")).touch()
    remove_tree(top)
    assert not top.exists()
    assert (kept / "file").exists()


def test_a_missing_tree_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing")


def test_a_link_in_place_of_the_tree_is_refused(top: Path) -> None:
    link = top.parent / "link"
    link.symlink_to(top)
    with pytest.raises(NotADirectoryError):
        remove_tree(link)
    assert top.exists()


def test_what_can_be_removed_is_removed_before_the_error(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepen(top, 100, "a")
    for name in ("busy", "free"):
        (top / name).touch()
    unlink = os.unlink

    def refuses(name: str, *, dir_fd: int | None = None) -> None:
        if name == "busy":
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuses)
        with pytest.raises(PermissionError, match=f"busy in {top}"):
            remove_tree(top)
    assert [entry.name for entry in top.iterdir()] == ["busy"]
    remove_tree(top)
    assert not top.exists()
