"""Fills a new volume from an image's files at a path, as Docker does. SHELL.

The path is resolved beneath the image's root (agent/runtime/program/beneath.py), in a read-only
view of its layers that no process of a container can change. `cp` copies: owners, modes, times,
extended attributes, links, holes. It is a process of its own, so that it can be ended.
"""

import asyncio
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import RuntimeFailed
from agent.runtime.program.beneath import open_in
from agent.volumes.views import viewed

PATH = "/usr/bin:/bin"
_ENDS_WITH_AGENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""The next agent fills the volume again: a former `cp` would overwrite what a task has written."""
_ERROR_BYTES = 4096
_NO_LINKS = re.compile(r"symbolic link .*: Operation not supported$")
"""What `cp` says on a file system without links."""
_INSTEAD = "a volume of cifs takes links with the option mfsymlinks; volume-nocopy copies no files"


def open_source(layers: Sequence[str], path: str, run: Path) -> int | None:
    """A descriptor (O_PATH) of an image's directory; None if the image has none at the path. `run`:
    a directory in which the image is mounted for a moment.
    """
    with viewed(layers, run) as view:
        try:
            return open_in(view, path, os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return None


def copy_empty(source: int, into: Path) -> bool:
    """Copy the owner and mode of the directory of the descriptor, if it has nothing else to copy;
    whether that was all. Most images declare empty directories: they cost no process.
    """
    path = f"/proc/self/fd/{source}"
    if next(Path(path).iterdir(), None) is not None or os.listxattr(path):
        return False
    status = os.fstat(source)
    os.chown(into, status.st_uid, status.st_gid)
    into.chmod(stat.S_IMODE(status.st_mode))
    return True


async def copy(source: int, into: Path) -> None:
    """Copy what is in the directory of the descriptor, and its own owner and mode. Ends with its
    caller. Raises RuntimeFailed with the cause.
    """
    words = ("cp", "--archive", "--reflink=auto", "--", f"/proc/self/fd/{source}/.", str(into))
    process = await asyncio.create_subprocess_exec(
        *_ENDS_WITH_AGENT,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(source,),
        env={"LC_ALL": "C", "PATH": PATH},
    )
    try:
        assert process.stderr is not None
        errors = b""
        while part := await process.stderr.read(_ERROR_BYTES):
            errors = (errors + part)[:_ERROR_BYTES]
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if code:
        text = errors.decode(errors="replace").strip().split("\n")[0].removeprefix("cp: ")
        told = f"{text}: {_INSTEAD}" if _NO_LINKS.search(text) else text
        raise RuntimeFailed(told or f"cp exited with {code}")
