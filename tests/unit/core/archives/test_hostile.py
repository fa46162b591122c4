"""Archives that nobody may unpack, and what a destination means."""

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyswarm_core.aio.archives import reading, unpacking
from pyswarm_core.aio.archives.entries import (
    Existing,
    Landing,
    Refused,
    Source,
    check_symlink,
    into_directory,
    landing,
    link_target,
    parts_of,
    top_name,
    trimmed,
)
from pyswarm_core.aio.archives.limits import (
    ARCHIVE_BYTES_MAX,
    ARCHIVE_DEPTH_MAX,
    ARCHIVE_ENTRIES_MAX,
    ARCHIVE_FILE_MAX,
    ARCHIVE_GLOBAL_BYTES_MAX,
    ARCHIVE_GLOBAL_RECORDS_MAX,
    ARCHIVE_HEADER_MAX,
)
from pyswarm_core.errors import InvalidArgument, NotFound
from tests.unit.core.archives.trees import entry, packed, source_of, tar, tree, unpacked

SYM, LNK, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE

HOSTILE = {
    "above": tar((entry("good"), b"x"), (entry("../evil"), b"x")),
    "above inside": tar((entry("good"), b"x"), (entry("a/../../evil"), b"x")),
    "absolute": tar((entry("good"), b"x"), (entry("/evil"), b"x")),
    "link above": tar((entry("good"), b"x"), entry("evil", SYM, "../../etc/passwd")),
    "link above inside": tar((entry("good"), b"x"), entry("a/evil", SYM, "../../x")),
    "hard link above": tar((entry("good"), b"x"), entry("evil", LNK, "../outside")),
    "absolute hard link": tar((entry("good"), b"x"), entry("evil", LNK, "/etc/passwd")),
    "hard link to nothing": tar((entry("good"), b"x"), entry("evil", LNK, "there")),
    "hard link to a directory": tar(entry("d", DIR), entry("evil", LNK, "d")),
    "hard link to a link": tar(entry("l", SYM, "/etc/passwd"), entry("evil", LNK, "l")),
    "hard link through a link": tar(entry("l", SYM, "/etc"), entry("evil", LNK, "l/passwd")),
    "character device": tar((entry("good"), b"x"), entry("evil", tarfile.CHRTYPE)),
    "block device": tar((entry("good"), b"x"), entry("evil", tarfile.BLKTYPE)),
    "through a link": tar(entry("l", SYM, "/tmp"), (entry("l/evil"), b"x")),
    "through a relative link": tar(entry("d", DIR), entry("l", SYM, "d"), (entry("l/evil"), b"x")),
    "a link as a directory": tar(entry("l", SYM, "/tmp"), entry("l", DIR), (entry("l/evil"), b"x")),
    "through a file": tar((entry("f"), b"x"), (entry("f/evil"), b"x")),
    "unknown type": tar((entry("good"), b"x"), entry("evil", b"Z")),
    "long name": tar((entry("good"), b"x"), (entry("evil" * 100), b"x")),
    "deep": tar((entry("good"), b"x"), entry("/".join("evil" for _ in range(300)), DIR)),
    "a file in place of a directory": tar(entry("evil/x", DIR), (entry("evil"), b"x")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_whole_and_named(tmp_path: Path, name: str) -> None:
    there = tmp_path / "a" / "b" / "there"
    there.mkdir(parents=True)
    (tmp_path / "a" / "b" / "outside").write_bytes(b"old")
    (there / "there").write_bytes(b"old")
    before = tree(tmp_path, times=False)
    with pytest.raises(Refused, match=r'evil|^the archive is refused: entry "l"'):
        unpacked(HOSTILE[name], there)
    assert tree(tmp_path, times=False) == before


def test_a_hard_link_does_not_reach_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"old")
    with pytest.raises(Refused, match="evil"):
        unpacked(tar(entry("evil", LNK, "secret"), (entry("evil"), b"new")), tmp_path)
    assert (tmp_path / "secret").read_bytes() == b"old"


def test_an_absolute_link_is_made_as_it_is_and_nothing_is_written_through_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "there").mkdir()
    link = entry("l", SYM, str(tmp_path / "outside"))
    unpacked(tar(link), tmp_path / "there")
    with pytest.raises(Refused, match="l/x"):
        unpacked(tar(link, (entry("l/x"), b"x")), tmp_path / "there")
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_entry_beside_the_requested_top_is_refused(tmp_path: Path) -> None:
    wanted = Landing(inside=True, name="copy", strip="top")
    archive = tar(entry("top", DIR), (entry("evil"), b"x"))
    with pytest.raises(Refused, match='entry "evil" is not part of "top"'):
        unpacked(archive, tmp_path, wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1024, 1500])
def test_an_archive_that_is_cut_off_leaves_nothing(tmp_path: Path, cut: int) -> None:
    archive = tar((entry("a"), b"x" * 400), (entry("b"), b"y" * 400))
    with pytest.raises(Refused, match=r"cut off|empty"):
        unpacked(archive[:cut], tmp_path)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_prop_a_damaged_archive_is_unpacked_inside_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    top = tmp_path_factory.mktemp("damaged")
    there = top / "there"
    there.mkdir()
    whole = bytearray(
        tar(
            (entry("a/b"), b"x" * 600),
            entry("l", SYM, "a"),
            entry("h", LNK, "a/b"),
            entry("d", DIR),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    checked = data.draw(st.booleans())
    archive = _with_checksums(bytes(whole)) if checked else bytes(whole)
    try:
        unpacked(archive, there)
    except (Refused, OSError):
        assert list(there.iterdir()) == []
    assert [path.name for path in top.iterdir()] == ["there"]


def _with_checksums(archive: bytes) -> bytes:
    """The archive with right checksums in place of damaged ones."""
    blocks = []
    for at in range(0, len(archive), 512):
        block = bytearray(archive[at : at + 512])
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            block[148:156] = b"%06o\0 " % total
        blocks.append(bytes(block))
    return b"".join(blocks)


def test_headers_are_bounded(tmp_path: Path) -> None:
    assert ARCHIVE_HEADER_MAX == 1 << 20
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = entry("evil", kind)
        info.size = 1 << 32
        with pytest.raises(Refused, match="header is larger"):
            unpacked(info.tobuf() + bytes(4 << 20), tmp_path)
    record = b"1000 k=" + b"v" * 992 + b"\n"
    info = entry("evil", tarfile.XHDTYPE)
    info.size = len(record)
    header = info.tobuf() + record + bytes(-len(record) % 512)
    with pytest.raises(Refused, match=r"header is larger|damaged"):
        unpacked(header * 2000, tmp_path)


def test_defaults_for_all_entries_are_bounded(tmp_path: Path) -> None:
    archive = b""
    for number in range(40):
        value = b"v" * 60_000
        record = b"60017 key%06d=" % number + value
        record = b"%d key%06d=%s\n" % (60_017, number, value)
        info = entry("evil", tarfile.XGLTYPE)
        info.size = len(record)
        archive += info.tobuf() + record + bytes(-len(record) % 512)
        archive += entry(f"e{number}", DIR).tobuf()
    with pytest.raises(Refused, match="header"):
        unpacked(archive + bytes(1024), tmp_path)


def test_the_number_of_entries_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ARCHIVE_ENTRIES_MAX == 1_000_000
    monkeypatch.setattr(reading, "ARCHIVE_ENTRIES_MAX", 3)
    with pytest.raises(Refused, match='"d3" exceeds the limit of 3 entries'):
        unpacked(tar(*(entry(f"d{n}", DIR) for n in range(5))), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_all_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ARCHIVE_BYTES_MAX, ARCHIVE_FILE_MAX) == (64 << 30, 16 << 40)
    monkeypatch.setattr(reading, "ARCHIVE_BYTES_MAX", 1000)
    with pytest.raises(Refused, match='"b" exceeds the limit of 1000 bytes'):
        unpacked(tar((entry("a"), b"x" * 600), (entry("b"), b"x" * 600)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_one_file_is_bounded(tmp_path: Path) -> None:
    info = entry("evil")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "evil",
        "GNU.sparse.realsize": str(1 << 60),
    }
    info.size = 512
    archive = info.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0") + bytes(1024)
    with pytest.raises(Refused, match="larger than"):
        unpacked(archive, tmp_path)


@pytest.mark.parametrize("text", ["1\n5\n-3\n", "2\n100\n10\n50\n10\n", "1\n0\n999999\n", "x\n"])
def test_a_map_of_data_that_is_not_valid_is_refused(tmp_path: Path, text: str) -> None:
    info = entry("evil")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "evil",
        "GNU.sparse.realsize": "4096",
    }
    info.size = 1024
    archive = info.tobuf(tarfile.PAX_FORMAT) + text.encode().ljust(1024, b"\0") + bytes(1024)
    with pytest.raises(Refused, match=r"not valid|damaged"):
        unpacked(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A PAX header of these records."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(records)
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0")


def record(key: str, value: str) -> bytes:
    """A PAX record of 100 to 99,999 bytes, or of less than 10."""
    rest = len(key) + len(value) + 3
    size = next(size for size in range(rest, rest + 7) if size == rest + len(str(size)))
    return f"{size} {key}={value}\n".encode()


@pytest.mark.parametrize(
    "headers",
    [
        [b"".join(record(f"k{number}", "v") for number in range(65))],
        [record(f"k{number}", "v") for number in range(65)],
        [record("a", "x" * 40_000), record("a", "x" * 40_000)],
    ],
)
def test_global_headers_are_bounded(tmp_path: Path, headers: list[bytes]) -> None:
    assert (ARCHIVE_GLOBAL_RECORDS_MAX, ARCHIVE_GLOBAL_BYTES_MAX) == (64, 65_536)
    good = tar((entry("good"), b"x"))
    first = [pax(records, tarfile.XGLTYPE) for records in headers]
    with pytest.raises(Refused, match='entry "header" exceeds the limit of 64 records and 65536'):
        unpacked(b"".join((*first, good)), tmp_path)
    assert list(tmp_path.iterdir()) == []
    few = b"".join(pax(record(f"k{number}", "v"), tarfile.XGLTYPE) for number in range(64))
    unpacked(few + good, tmp_path)
    assert (tmp_path / "good").read_bytes() == b"x"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize(
    "records",
    [
        b"2 " * 1000 + b"=",
        b"1" * 1000 + b" a=b\n",
        b"6 a=b\n!",
        b"9 a=b\n",
        b"7 abcd\n",
        b"5 =b\n",
        record("a", "1" * 256),
    ],
)
def test_records_made_for_the_parser_are_refused(
    tmp_path: Path, records: bytes, kind: bytes
) -> None:
    with pytest.raises(Refused, match=r'entry "header" has a PAX record (that is not|with a num)'):
        unpacked(pax(records, kind) + tar((entry("evil"), b"x")), tmp_path)


def test_an_archive_too_deep_to_pack_is_an_error(tmp_path: Path) -> None:
    assert ARCHIVE_DEPTH_MAX == 256
    descriptor = os.open(tmp_path, os.O_PATH)
    for _ in range(ARCHIVE_DEPTH_MAX + 2):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_PATH, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    with pytest.raises(Exception, match="deeper than 256"):
        packed(tmp_path, "top")


def test_modes_and_owners_follow_the_rights(tmp_path: Path) -> None:
    info = entry("program")
    info.mode, info.uid, info.gid = 0o6755, 12345, 54321
    masked = unpacking.Rights(owner=lambda uid, gid: None, mode=0o777, attributes=False)
    unpacked(tar((info, b"x")), tmp_path, rights=masked)
    status = (tmp_path / "program").stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o755, os.geteuid())


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "c d"]), min_size=1, max_size=6)


@given(NAMES, st.booleans())
def test_prop_a_path_is_beneath_the_top_or_refused(words: list[str], absolute: bool) -> None:
    name = "/" * absolute + "/".join(words)
    try:
        parts = parts_of(name)
    except Refused:
        assert ".." in words or name.startswith("/")
        return
    assert ".." not in words
    assert list(parts) == [word for word in words if word not in ("", ".")]


@given(NAMES)
def test_prop_a_hard_link_names_something_beneath_the_top(words: list[str]) -> None:
    try:
        parts = link_target("x", "/".join(words))
    except Refused:
        return
    assert parts
    assert not {"..", ".", ""} & set(parts)


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4), NAMES)
def test_prop_a_relative_link_stays_beneath_the_top(place: list[str], words: list[str]) -> None:
    target = "/".join(words)
    if target.startswith("/") or not target:
        return
    inside = True
    walked = place[:-1]
    for word in words:
        if word == "..":
            inside = inside and bool(walked)
            walked = walked[:-1]
        elif word not in ("", "."):
            walked = [*walked, word]
    try:
        check_symlink("x", tuple(place), target)
    except Refused:
        assert not inside
    else:
        assert inside


FILE, FOLDER, CONTENT = Source("src", False), Source("src", True), Source("", True)
NOTHING, A_FILE, A_FOLDER = Existing(), Existing(True, False), Existing(True, True)


@pytest.mark.parametrize(
    ("source", "path", "existing", "expected"),
    [
        (FILE, "/new", NOTHING, (False, "new")),
        (FILE, "/old", A_FILE, (False, "old")),
        (FILE, "/dir", A_FOLDER, (True, "src")),
        (FILE, "/dir/", A_FOLDER, (True, "src")),
        (FILE, "/new/", NOTHING, NotFound),
        (FILE, "/old/", A_FILE, InvalidArgument),
        (FOLDER, "/new", NOTHING, (False, "new")),
        (FOLDER, "/new/", NOTHING, (False, "new")),
        (FOLDER, "/old", A_FILE, InvalidArgument),
        (FOLDER, "/dir", A_FOLDER, (True, "src")),
        (CONTENT, "/new", NOTHING, (False, "new")),
        (CONTENT, "/new/.", NOTHING, (False, "new")),
        (CONTENT, "/dir", A_FOLDER, (True, "")),
        (CONTENT, "/", A_FOLDER, (True, "")),
    ],
)
def test_the_destination_follows_dockers_rules(
    source: Source, path: str, existing: Existing, expected: tuple[bool, str] | type[Exception]
) -> None:
    if isinstance(expected, tuple):
        assert landing(source, path, existing)[:2] == expected
    else:
        with pytest.raises(expected):
            landing(source, path, existing)


def test_an_archive_of_a_user_goes_into_an_existing_directory() -> None:
    assert into_directory("/dir", A_FOLDER) == Landing(inside=True, name="", strip="")
    with pytest.raises(InvalidArgument, match="must be a directory"):
        into_directory("/old", A_FILE)
    with pytest.raises(NotFound, match="no such directory"):
        into_directory("/new", NOTHING)


@pytest.mark.parametrize(
    ("path", "top", "short"),
    [
        ("/etc", "etc", "/etc"),
        ("/etc/", "etc", "/etc"),
        ("/etc/.", "", "/etc"),
        ("/", "", "/"),
        (".", "", "."),
        ("a/b//", "b", "a/b"),
        ("a/./", "a", "a"),
        ("/a/..", "", "/a/.."),
    ],
)
def test_the_top_of_an_archive_is_named_like_the_source(path: str, top: str, short: str) -> None:
    assert (top_name(path), trimmed(path)) == (top, short)


def test_bytes_after_the_end_are_read_to_the_end() -> None:
    source = source_of(tar(entry("d", DIR)) + bytes(5000))
    assert [info.name for info in reading.entries(source)] == ["d"]
    source.drain()
    assert source.tell() % 512 in (5000 % 512, 0)
    assert not source.take(1)
