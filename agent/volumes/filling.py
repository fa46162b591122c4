"""Fills a new volume from an image's files at a path, as Docker does. SHELL.

The path is resolved beneath the image's root (agent/runtime/program/beneath.py), in a read-only
view of its layers that no process of a container can change. `cp` copies: owners, modes, times,
extended attributes, links, holes. It is a process of its own, so that it can be ended.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from agent.runtime import mounts
from agent.runtime.base import RuntimeFailed
from agent.runtime.program.beneath import Root

PATH = "/usr/bin:/bin"
_ERROR_BYTES = 4096


def open_source(layers: Sequence[str], path: str, run: Path) -> int | None:
    """A descriptor (O_PATH) of an image's directory; None if the image has none at the path. `run`:
    a directory in which the image is mounted for a moment.
    """
    scratch = run / f"fill-{token_hex(8)}"
    empty, view = scratch / "empty", scratch / "view"
    for directory in (scratch, empty, view):
        directory.mkdir(mode=0o700)
    try:
        # The kernel mounts no overlay of one layer alone.
        mounts.view((*layers, str(empty)), view)
        try:
            with Root(view).opened(path, os.O_PATH | os.O_DIRECTORY) as descriptor:
                return os.dup(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            mounts.unmount(view)
    finally:
        for directory in (view, empty, scratch):
            directory.rmdir()


async def copy(source: int, into: Path) -> None:
    """Copy what is in the directory of the descriptor, and its own owner and mode. Ends with its
    caller. Raises RuntimeFailed with the cause.
    """
    process = await asyncio.create_subprocess_exec(
        "cp", "--archive", "--reflink=auto", "--", f"/proc/self/fd/{source}/.", str(into),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(source,),
        env={"LC_ALL": "C", "PATH": PATH},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        told = b""
        while part := await process.stderr.read(_ERROR_BYTES):
            told = (told + part)[:_ERROR_BYTES]
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if code:
        text = told.decode(errors="replace").strip().split("\n")[0].removeprefix("cp: ")
        raise RuntimeFailed(text or f"cp exited with {code}")
