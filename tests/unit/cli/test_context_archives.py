"""Archives of contexts: what was exported is imported, and hostile ones are refused."""

import io
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cli.context import store
from cli.context.archive import ARCHIVE_MAX, MEMBER_MAX, packed, unpacked
from cli.context.model import Context, Material
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.tokens import UserToken, digest_of, secret_of
from tests.unit.cli.conftest import Pyswarm

TOKEN = str(UserToken(digest_of(b"root"), "0" * 25, secret_of(7)))
PROD = Context(
    name="prod",
    host="192.0.2.1:2377",
    description="three hosts",
    material=Material(token=TOKEN),
)
META = b'{"Name":"a","Endpoints":{"docker":{"Host":"192.0.2.1:2377"}}}'
ascii_text = st.text(st.characters(max_codepoint=127), max_size=50)


def tar(*members: tuple[tarfile.TarInfo | str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@given(st.text(max_size=30), ascii_text, ascii_text, ascii_text)
def test_prop_a_context_survives_its_archive(text: str, ca: str, key: str, token: str) -> None:
    context = Context(
        name="", host="h:1", description=text, material=Material(ca=ca, key=key, token=token)
    )
    assert unpacked(packed(context)) == context


def test_names_of_this_machine_stay_here() -> None:
    """An archive says which fleet, not by what name it is known here."""
    assert unpacked(packed(PROD)) == replace(PROD, name="")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a tar archive"),
        (b"garbage" * 200, "is not a tar archive"),
        (tar(("meta.json", META))[:700], "is not a tar archive"),
        (b"x" * (ARCHIVE_MAX + 1), "larger than 2 MiB"),
        (tar(("tls/docker/ca.pem", b"x")), "has no meta.json"),
        (tar(("meta.json", META), ("../evil", b"x")), "an unexpected member"),
        (tar(("meta.json", META), ("/etc/passwd", b"x")), "an unexpected member"),
        (tar(("./meta.json", META)), "an unexpected member"),
        (tar((link("meta.json", tarfile.SYMTYPE, "/etc/shadow"), b"")), "is not a plain file"),
        (tar((link("meta.json", tarfile.LNKTYPE, "/etc/shadow"), b"")), "is not a plain file"),
        (tar((link("meta.json", tarfile.FIFOTYPE, ""), b"")), "is not a plain file"),
        (tar((link("meta.json", tarfile.CHRTYPE, ""), b"")), "is not a plain file"),
        (tar((link("meta.json", tarfile.DIRTYPE, ""), b"")), "is not a plain file"),
        (tar(("meta.json", META), ("meta.json", META)), '"meta.json" twice'),
        (tar(("meta.json", b"x" * (MEMBER_MAX + 1))), "larger than 256 KiB"),
        (tar(*[(link("tls", tarfile.DIRTYPE, ""), b"")] * 17), "more than 16 members"),
        (tar(("meta.json", b"{")), "is damaged"),
        (tar(("meta.json", META), ("tls/docker/ca.pem", b"\xff")), "is damaged"),
        (tar(("meta.json", b'{"Name":"a","Endpoints":{}}')), "expected Endpoints.docker.Host"),
        (tar(("meta.json", META.replace(b":2377", b""))), "expected unix:///PATH or HOST:PORT"),
    ],
)
def test_an_archive_that_is_not_valid_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        unpacked(content)
    assert reason in str(caught.value)


@given(st.data())
def test_prop_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(packed(PROD))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpacked(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except InvalidArgument:
        return
    assert found.name == ""


def test_export_and_import(pyswarm: Pyswarm, tmp_path: Path) -> None:
    store.save(PROD)
    path = tmp_path / "out.tar"
    ran = pyswarm("context", "export", "prod", str(path))
    assert (ran.code, ran.out, ran.err) == (0, "", f'Written file "{path}"\n')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "is not overwritten" in pyswarm("context", "export", "prod", str(path)).err
    ran = pyswarm("context", "import", "copy", str(path))
    assert (ran.code, ran.out) == (0, "copy\n")
    assert store.load("copy").material == PROD.material
    assert "already exists" in pyswarm("context", "import", "copy", str(path)).err
    assert "no such file" in pyswarm("context", "import", "b", str(tmp_path / "none")).err


def test_an_imported_context_is_checked_as_a_created_one(pyswarm: Pyswarm, tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(tar(("meta.json", META), ("tls/docker/token", b"PYSWU-1-x")))
    ran = pyswarm("context", "import", "bad", str(path))
    assert (ran.code, ran.out) == (2, "")
    assert "the token is not valid" in ran.err
    assert store.names() == ["default"]
