"""What is packed and unpacked is the same tree; what GNU tar makes and reads is, too."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pyswarm_core.aio.archives import packing
from pyswarm_core.aio.archives.entries import Landing
from pyswarm_core.aio.archives.limits import ARCHIVE_EXTENTS_MAX, ARCHIVE_LINKS_MAX
from pyswarm_core.aio.archives.unpacking import Rights
from pyswarm_core.errors import Conflict
from tests.unit.core.archives.trees import entry, packed, tar, tree, unpacked

HOLE = 1 << 30
KEEP = Rights(owner=lambda uid, gid: (uid, gid))


def make_tree(top: Path) -> Path:
    top.mkdir()
    (top / "file").write_bytes(b"hello")
    (top / "empty").touch()
    (top / "program").write_bytes(b"#!")
    (top / "program").chmod(0o4755)
    (top / "deep" / "er").mkdir(parents=True)
    (top / "deep" / "er" / "large").write_bytes(bytes(range(256)) * 3000)
    (top / "link").symlink_to("deep/er")
    (top / "absolute").symlink_to("/etc/passwd")
    (top / "up").symlink_to("../top/file")
    (top / "same").hardlink_to(top / "file")
    (top / "a name with \n and ü").write_bytes(b"x")
    (top / ("long" * 50)).write_bytes(b"y")
    os.mkfifo(top / "pipe")
    (top / "closed").mkdir()
    (top / "closed" / "inside").write_bytes(b"z")
    (top / "closed").chmod(0o555)
    for path, at in ((top / "file", 1_000_000_000), (top / "deep", 1_100_000_000)):
        os.utime(path, (at, at))
    return top


def test_a_tree_comes_out_as_it_went_in(tmp_path: Path) -> None:
    top = make_tree(tmp_path / "top")
    (top / "up").unlink()
    (tmp_path / "there").mkdir()
    copied = unpacked(packed(top, "top"), tmp_path / "there", rights=KEEP)
    found = tree(tmp_path / "there" / "top")
    assert found == tree(top)
    assert copied.entries == len(found) + 1
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["top"]


def test_the_content_of_a_directory_lands_in_an_existing_one_beside_what_is_there(
    tmp_path: Path,
) -> None:
    top, there = make_tree(tmp_path / "top"), tmp_path / "there"
    (top / "up").unlink()
    (there / "deep").mkdir(parents=True)
    (there / "deep" / "kept").write_bytes(b"old")
    (there / "file").write_bytes(b"old and longer")
    there.chmod(0o700)
    unpacked(packed(top, ""), there)
    assert (there / "file").read_bytes() == b"hello"
    assert (there / "deep" / "kept").read_bytes() == b"old"
    assert (there / "deep" / "er" / "large").stat().st_size == 768_000
    assert (there / "deep").stat().st_mtime == 1_100_000_000
    assert there.stat().st_mode & 0o777 == 0o700


def test_a_top_gets_another_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    landing = Landing(inside=False, name="copy", strip="file")
    unpacked(packed(tmp_path / "file", "file"), tmp_path, landing)
    assert (tmp_path / "copy").read_bytes() == b"hello"


def test_holes_stay_holes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    with (top / "sparse").open("wb") as file:
        file.seek(HOLE // 2)
        file.write(b"middle")
        file.truncate(HOLE)
    with (top / "hole").open("wb") as file:
        file.truncate(HOLE)
    with (top / "begins").open("wb") as file:
        file.write(b"first")
        file.truncate(HOLE)
    archive = packed(top, "top")
    assert len(archive) < 100_000
    (tmp_path / "there").mkdir()
    assert unpacked(archive, tmp_path / "there").size == 3 * HOLE
    for name, at, text in (("sparse", HOLE // 2, b"middle"), ("begins", 0, b"first")):
        copy = tmp_path / "there" / "top" / name
        assert copy.stat().st_size == HOLE
        assert copy.stat().st_blocks * 512 < 1 << 20
        with copy.open("rb") as file:
            file.seek(at)
            assert file.read(6).startswith(text)
    assert (tmp_path / "there" / "top" / "hole").stat().st_blocks == 0


def test_a_file_of_very_many_holes_has_a_map_of_bounded_size(tmp_path: Path) -> None:
    count = ARCHIVE_EXTENTS_MAX + 100
    with (tmp_path / "file").open("wb") as file:
        for number in range(count):
            file.seek(number * 8192)
            file.write(b"x")
        file.truncate(count * 8192)
    (tmp_path / "there").mkdir()
    unpacked(packed(tmp_path / "file", "file"), tmp_path / "there")
    assert ARCHIVE_EXTENTS_MAX == 16_384
    assert (tmp_path / "there" / "file").read_bytes() == (tmp_path / "file").read_bytes()


def test_attributes_of_users_are_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    try:
        os.setxattr(tmp_path / "file", "user.note", b"\x00\xff text")
    except OSError:
        pytest.fail("the file system of tmp_path has no attributes")
    (tmp_path / "there").mkdir()
    unpacked(packed(tmp_path / "file", "file"), tmp_path / "there")
    assert os.getxattr(tmp_path / "there" / "file", "user.note") == b"\x00\xff text"


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_what_tar_makes_is_unpacked(tmp_path: Path, form: str) -> None:
    top = make_tree(tmp_path / "top")
    for name in ("up", "a name with \n and ü"):
        (top / name).unlink()
    if form in ("ustar", "v7"):
        (top / ("long" * 50)).unlink()
    if form == "v7":
        (top / "pipe").unlink()
    with (top / "sparse").open("wb") as file:
        for at in range(0, 40 * 65536, 65536):
            file.seek(at)
            file.write(b"data")
        file.truncate(1 << 26)
    sparse = [] if form in ("ustar", "v7") else ["--sparse"]
    words = ["tar", "-C", str(tmp_path), f"--format={form}", *sparse, "-cf", "-", "top"]
    archive = subprocess.run(words, check=True, capture_output=True).stdout
    (tmp_path / "there").mkdir()
    unpacked(archive, tmp_path / "there", rights=KEEP)
    assert tree(tmp_path / "there" / "top") == tree(top)
    if sparse:
        assert len(archive) < 4 << 20
        assert (tmp_path / "there" / "top" / "sparse").stat().st_blocks * 512 < 1 << 24


def test_tar_and_pythons_tarfile_read_what_is_packed(tmp_path: Path) -> None:
    top = make_tree(tmp_path / "top")
    with (top / "sparse").open("wb") as file:
        file.seek(1 << 25)
        file.write(b"middle")
        file.truncate(1 << 26)
    archive = packed(top, "top")
    (tmp_path / "there").mkdir()
    words = ["tar", "-C", str(tmp_path / "there"), "-xpf", "-"]
    subprocess.run(words, check=True, input=archive)
    assert tree(tmp_path / "there" / "top") == tree(top)
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        member = read.extractfile("top/sparse")
        assert member is not None
        assert member.read()[1 << 25 :][:6] == b"middle"


def test_a_later_entry_of_a_name_counts(tmp_path: Path) -> None:
    first, second = (entry("a"), b"one"), (entry("a"), b"two")
    unpacked(tar(first, second, entry("b", tarfile.SYMTYPE, "a")), tmp_path)
    assert (tmp_path / "a").read_bytes() == b"two"


def test_a_directory_that_an_archive_returns_to_keeps_its_time_and_mode(tmp_path: Path) -> None:
    directory, other = entry("d", tarfile.DIRTYPE), entry("e", tarfile.DIRTYPE)
    directory.mtime, directory.mode = 1_000_000_000, 0o500
    entries = [directory, entry("d/a"), other, entry("d/b")]
    unpacked(tar(*entries), tmp_path)
    status = (tmp_path / "d").stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1_000_000_000, 0o500)
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"a", "b"}


def test_parents_without_an_entry_are_made(tmp_path: Path) -> None:
    unpacked(tar((entry("a/b/c"), b"x")), tmp_path)
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("there", "archive", "words"),
    [
        ("directory", tar((entry("x"), b"")), 'cannot overwrite directory "x"'),
        ("file", tar(entry("x", tarfile.DIRTYPE)), 'cannot overwrite non-directory "x"'),
        ("pipe", tar((entry("x"), b"")), "device, socket or pipe"),
        ("deep", tar(entry("a"), entry("d/x")), 'cannot overwrite directory "d/x"'),
    ],
)
def test_nothing_of_another_type_is_replaced(
    tmp_path: Path, there: str, archive: bytes, words: str
) -> None:
    match there:
        case "directory":
            (tmp_path / "x").mkdir()
        case "file":
            (tmp_path / "x").touch()
        case "pipe":
            os.mkfifo(tmp_path / "x")
        case _:
            (tmp_path / "d" / "x").mkdir(parents=True)
    before = tree(tmp_path, times=False)
    with pytest.raises(Conflict, match=words):
        unpacked(archive, tmp_path)
    assert tree(tmp_path, times=False) == before


def test_a_link_that_exists_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "there" / "x").symlink_to("../secret")
    unpacked(tar((entry("x"), b"new")), tmp_path / "there")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert not (tmp_path / "there" / "x").is_symlink()


def test_a_link_in_place_of_a_directory_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "there" / "d").symlink_to("../outside")
    with pytest.raises(Conflict, match="non-directory"):
        unpacked(tar(entry("d", tarfile.DIRTYPE), (entry("d/x"), b"new")), tmp_path / "there")
    assert list((tmp_path / "outside").iterdir()) == []


def test_hard_links_beyond_the_bound_become_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ARCHIVE_LINKS_MAX == 100_000
    monkeypatch.setattr(packing, "ARCHIVE_LINKS_MAX", 1)
    top = tmp_path / "top"
    top.mkdir()
    for name in ("a", "b"):
        (top / name).write_bytes(b"hello")
        (top / f"{name}2").hardlink_to(top / name)
    (tmp_path / "there").mkdir()
    unpacked(packed(top, ""), tmp_path / "there")
    linked = [path.stat().st_nlink for path in (tmp_path / "there").iterdir()]
    assert sorted(linked) == [1, 1, 2, 2]
    assert {path.read_bytes() for path in (tmp_path / "there").iterdir()} == {b"hello"}
