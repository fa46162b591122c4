"""What users read when mount(2) fails."""

import errno
from pathlib import Path

import pytest

from agent.volumes import child

SHARE = "//nas/media"


def told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, kind: str, data: str = ""
) -> str:
    """The error of a mount for which the kernel has this number."""

    def mount(*words: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(child, "_mount", mount)
    target = tmp_path / "target"
    target.mkdir()
    request = {"lock": str(tmp_path), "target": str(target), "flags": 0, "host": "", "data": data}
    with pytest.raises(child.Failed) as failed:
        child.do_mount({**request, "type": kind, "device": SHARE})
    return str(failed.value)


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENODEV, "cifs", "this host's kernel has no file system cifs: install its module"),
        (errno.EACCES, "cifs", "Permission denied: the server refuses the user or the password:"),
        (errno.EACCES, "smb3", "Permission denied: the server refuses the user or the password:"),
        (errno.ENOENT, "cifs", "No such file or directory: the server has no such share, or"),
        (errno.EOPNOTSUPP, "cifs", "Operation not supported: the server does not speak this ver"),
        (errno.ECONNREFUSED, "cifs", "Connection refused: no server listens there: is it started"),
        (errno.EHOSTDOWN, "cifs", "Host is down: this host does not reach the server: is it up"),
        (errno.ENOKEY, "cifs", "Required key not available: sec=krb5 needs cifs.upcall"),
        (errno.EINVAL, "cifs", "Invalid argument: the file system cifs does not take these options,"
         " or username is missing: the kernel's log"),
        (errno.EACCES, "nfs", "Permission denied: the server does not export this directory to"),
        (errno.ENOENT, "nfs4", "No such file or directory: the server exports no such directory"),
        (errno.ENETUNREACH, "nfs", "Network is unreachable: this host does not reach the server:"),
        (errno.EINVAL, "ext4", "Invalid argument: the file system ext4 does not take these options,"
         " or the device is none of it: the kernel's log"),
        (errno.ENOTBLK, "ext4", "Block device required: expected a block device"),
        (errno.ENOENT, "ext4", "No such file or directory"),
        (errno.EACCES, "ext4", "Permission denied"),
    ],
)  # fmt: skip
def test_an_error_says_what_it_means_for_this_file_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, kind: str, reason: str
) -> None:
    found = told(monkeypatch, tmp_path, number, kind)
    assert found.startswith(f"cannot mount {SHARE}: {reason}")


def test_without_a_program_for_kerberos_its_option_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = "username=u,password=geheim,sec=krb5"
    found = told(monkeypatch, tmp_path, errno.ENOENT, "cifs", data)
    assert "sec=krb5 needs cifs.upcall of cifs-utils" in found
    assert "geheim" not in found
