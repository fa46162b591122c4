"""Why a container's program cannot be executed: inspects the file. SHELL over `Root`.

Used only once the OCI runtime or the kernel has refused. The message is Docker's where it has one
(`exec: "/x": stat /x: no such file or directory`), followed by what the inspection found. If it
finds no fault (a volume hides the file, a security module refuses), the runtime's message remains.
"""

import errno
import json
import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent.runtime.program.beneath import Root
from agent.runtime.program.binfmt import HEAD_BYTES, read_program
from pyswarm_core.plaintext import as_utf8

_SHOWN_MAX = 256
# The kernel follows this many nested interpreters.
_INTERPRETERS_MAX = 5
# Messages of crun and runc that are about the program or the working directory.
_ABOUT_PROGRAM = re.compile(
    r"^(?:unable to start container process: )?(?:error during container init: )?"
    r"(?:(?:executable file|open executable|exec|chdir)\b|mkdir .*(?:not a directory|file exists)$)"
)
_CRUN_EXEC = re.compile(r"^exec container process (?:\([^)]*\) )?`(?P<path>.*)`: (?P<cause>.*)$")
_CHDIR = re.compile(r"\bchdir (?:to cwd \()?[`\"](?P<path>.*)[`\"].*: (?P<cause>[^:]*)$")
_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


class _User(msgspec.Struct, frozen=True):
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


class _Refused(Exception):
    """The text says why the program cannot be executed."""


def is_about_program(message: str) -> bool:
    """Whether the OCI runtime refused the program or its working directory."""
    return _ABOUT_PROGRAM.match(message) is not None


def explain(message: str, bundle: Path, process: dict[str, Any] | None = None) -> str:
    """The path and cause behind `message`, the OCI runtime's message for the container at `bundle`.

    `process` is the OCI section of a program other than the container's own.
    """
    if not is_about_program(message) or not os.path.ismount(bundle / "rootfs"):
        return message
    try:
        config = msgspec.json.decode((bundle / "config.json").read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return message
    config["process"] = process or config["process"]
    found = fault(bundle / "rootfs", config)
    return found or _with_path(message, str(config["process"]["args"][0]))


def fault(rootfs: Path, config: dict[str, Any]) -> str:
    """The fault of the program or the working directory of an OCI configuration; empty if none is
    found.
    """
    try:
        _Program(Root(rootfs), config).check()
    except _Refused as refused:
        return str(refused)
    except OSError:
        return ""
    return ""


def _with_path(message: str, name: str) -> str:
    """The runtime's message with the program's name, and without the runtime's guesses."""
    if found := _CHDIR.search(message):
        return f"working directory {_quoted(found['path'])}: {found['cause'].lower()}"
    if found := _CRUN_EXEC.match(message):
        return f"exec {_shown(found['path'])}: {found['cause'].lower()}"
    if message.startswith("open executable"):
        return f"exec: {_quoted(name)}: {message}"
    return message


class _Program:
    """The program of one container."""

    def __init__(self, root: Root, config: dict[str, Any]) -> None:
        process = config["process"]
        self._root = root
        self._mounts = [Path(str(mount["destination"])) for mount in config.get("mounts", ())]
        self._name = str(process["args"][0])
        self._cwd = str(process.get("cwd", "/"))
        self._path = next(
            (e[5:] for e in reversed(process.get("env", ())) if e.startswith("PATH=")), ""
        )
        user = process.get("user", {})
        self._user = _User(
            user.get("uid", 0), user.get("gid", 0), tuple(user.get("additionalGids", ()))
        )

    def check(self) -> None:
        """Raise _Refused with the first fault."""
        self._check_directory()
        path = self._found()
        if self._is_mounted(path):
            return
        self._check_file(path, f"exec: {_quoted(self._name)}")
        self._check_content(path, path, _INTERPRETERS_MAX)

    def _check_directory(self) -> None:
        """Check the working directory; the runtime makes a missing one."""
        try:
            found = self._root.stat(self._cwd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _Refused(f"working directory {_quoted(self._cwd)}: {_cause(error)}") from error
        if not stat.S_ISDIR(found.st_mode):
            raise _Refused(f"working directory {_quoted(self._cwd)}: not a directory")

    def _is_mounted(self, path: str) -> bool:
        """Whether a mount of the container hides the image's file."""
        return any(Path(path).is_relative_to(mount) for mount in self._mounts)

    def _found(self) -> str:
        """The program's path: as given, or the first in PATH that can be executed."""
        if not self._name:
            raise _Refused('exec: "": the command is empty')
        if "/" in self._name:
            return self._absolute(self._name)
        candidates = list(self._candidates())
        best = next((path for path in candidates if self._is_executable(path)), "")
        if best or candidates:
            return best or candidates[0]
        raise _Refused(
            f"exec: {_quoted(self._name)}: executable file not found in $PATH"
            f" ({_shown(self._path) or 'PATH is empty'})"
        )

    def _candidates(self) -> Iterator[str]:
        for directory in self._path.split(":"):
            path = self._absolute(f"{directory or '.'}/{self._name}")
            try:
                if not stat.S_ISDIR(self._root.stat(path).st_mode):
                    yield path
            except OSError as error:
                if error.errno == errno.ELOOP:
                    yield path

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else str(Path(self._cwd) / path)

    def _is_executable(self, path: str) -> bool:
        try:
            found = self._root.stat(path)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and _may(self._user, found, stat.S_IXUSR)

    def _check_file(self, path: str, what: str) -> None:
        """Check that it exists, is a regular file, and is executable for the user."""
        try:
            found = self._root.stat(path)
        except OSError as error:
            hint = self._missing_part(path, error.errno)
            raise _Refused(f"{what}: stat {_shown(path)}: {_cause(error)}{hint}") from error
        if stat.S_ISDIR(found.st_mode):
            raise _Refused(f"{what}: is a directory")
        self._check_parents(path, what)
        for is_kind, kind in _KINDS:
            if is_kind(found.st_mode):
                raise _Refused(f"{what}: permission denied ({_shown(path)} is {kind}, not a file)")
        if not _may(self._user, found, stat.S_IXUSR):
            raise _Refused(f"{what}: permission denied ({self._denied(path, found)})")

    def _denied(self, path: str, found: os.stat_result) -> str:
        mode = f"{_shown(path)} has mode {stat.S_IMODE(found.st_mode):04o}"
        if not found.st_mode & 0o111:
            return f"{mode}, no execute permission; chmod +x it in the image"
        who = f"user {self._user.uid}:{self._user.gid}"
        return f"{mode} and belongs to {found.st_uid}:{found.st_gid}: {who} may not execute it"

    def _check_parents(self, path: str, what: str) -> None:
        """Check that the user may search every parent directory."""
        for given in (path, self._root.resolved(path)):
            for parent in reversed(Path(given).parents):
                found = self._root.stat(str(parent))
                if stat.S_ISDIR(found.st_mode) and not _may(self._user, found, stat.S_IXUSR):
                    who = f"user {self._user.uid}:{self._user.gid} may not search {parent}"
                    raise _Refused(f"{what}: stat {_shown(path)}: permission denied ({who})")

    def _missing_part(self, path: str, number: int | None) -> str:
        """The broken link, or the part of the path that is missing or not a directory."""
        if number not in (errno.ENOENT, errno.ENOTDIR):
            return ""
        for part in (*reversed(Path(path).parents), Path(path)):
            if target := self._root.target(str(part)):
                try:
                    self._root.stat(str(part))
                except OSError:
                    return f" ({_shown(str(part))} is a link to {_shown(target)})"
            try:
                found = self._root.stat(str(part))
            except OSError:
                missing = number == errno.ENOENT and part != Path(path)
                return f" (there is no {_shown(str(part))})" if missing else ""
            if number == errno.ENOTDIR and not stat.S_ISDIR(found.st_mode):
                return f" ({_shown(str(part))} is a file)"
        return ""

    def _check_content(self, program: str, path: str, depth: int) -> None:
        """Check that the kernel knows the file's format, and finds its interpreters."""
        what = f"exec {_shown(program)}"
        found = read_program(self._root.head(path, HEAD_BYTES), platform.machine())
        if found.fault:
            where = "" if program == path else f"its interpreter {_shown(path)}: "
            raise _Refused(f"{what}: exec format error ({where}{found.fault})")
        if not found.interpreter or not depth:
            return
        if found.interpreter.endswith("\r"):
            raise _Refused(
                f"{what}: no such file or directory (its first line {_quoted(found.line)} ends with"
                " a carriage return, a CRLF line end of Windows: save it with LF)"
            )
        kind = "interpreter" if found.line else "dynamic loader"
        interpreter = self._absolute(found.interpreter)
        self._check_interpreter(what, kind, interpreter)
        self._check_content(program, interpreter, depth - 1)

    def _check_interpreter(self, what: str, kind: str, path: str) -> None:
        try:
            found = self._root.stat(path)
        except OSError as error:
            raise _Refused(
                f"{what}: {_cause(error)} (its {kind} {_shown(path)} is not in the image)"
            ) from error
        if not stat.S_ISREG(found.st_mode):
            raise _Refused(f"{what}: permission denied (its {kind} {_shown(path)} is no file)")
        if not _may(self._user, found, stat.S_IXUSR):
            denied = self._denied(path, found)
            raise _Refused(f"{what}: permission denied (its {kind} {denied})")


def _may(user: _User, found: os.stat_result, bit: int) -> bool:
    """Whether the mode permits the user; `bit` is the owner's. Root may what any user may."""
    if user.uid == 0:
        return stat.S_ISDIR(found.st_mode) or bool(found.st_mode & (bit | bit >> 3 | bit >> 6))
    if user.uid == found.st_uid:
        return bool(found.st_mode & bit)
    if found.st_gid in (user.gid, *user.groups):
        return bool(found.st_mode & bit >> 3)
    return bool(found.st_mode & bit >> 6)


def _cause(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _shown(text: str) -> str:
    """A path for messages: one printable line of bounded length."""
    return _quoted(text)[1:-1]


def _quoted(text: str) -> str:
    shown = text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
    return json.dumps(as_utf8(shown), ensure_ascii=False)
