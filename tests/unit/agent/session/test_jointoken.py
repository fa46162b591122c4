"""The join token: read from a file, which is removed where that is possible."""

import errno
import logging
import os
from pathlib import Path

import pytest

from agent.session.jointoken import join_token, remove_token
from pyswarm_core.errors import InvalidArgument


def test_the_flag_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("PYSWM-1-a-file\n")
    assert join_token("PYSWM-1-a-flag", file) == "PYSWM-1-a-flag"
    assert join_token("", file) == "PYSWM-1-a-file"
    assert join_token("", None) == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"", "it is empty"), (b"\n", "it is empty"), (b"\xff", "no text")],
)
def test_a_file_without_a_token_is_refused_by_its_name(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=f"--join-token-file.*{reason}.*join-token worker"):
        join_token("", file)


def test_a_used_file_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("PYSWM-1-a-b")
    remove_token(file)
    assert list(tmp_path.iterdir()) == []
    remove_token(file)
    remove_token(None)


@pytest.mark.parametrize(
    ("number", "is_logged"), [(errno.EROFS, False), (errno.EBUSY, False), (errno.EPERM, True)]
)
def test_a_file_that_cannot_be_removed_ends_nothing(
    tmp_path: Path,
    number: int,
    is_logged: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "token"
    file.write_text("PYSWM-1-a-b")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with caplog.at_level(logging.WARNING):
        remove_token(file)
    assert ("join_token.kept" in caplog.text) == is_logged
    assert "PYSWM" not in caplog.text
