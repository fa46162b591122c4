"""Runs `child.py`: work on file systems with a time limit. SHELL.

What hangs is a process, which is killed; one that not even SIGKILL ends is left to the kernel. No
thread of the agent ever waits for a file system, so the agent can end at any time.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from agent.runtime.base import RuntimeFailed
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import seconds
from pyswarm_core.docker.units import format_duration
from pyswarm_core.errors import reason_of
from pyswarm_core.volumes.limits import VOLUME_ANSWER

_log = EventLog("agent.volumes")
_PROGRAM = Path(__file__).with_name("child.py")
CHILDREN_AT_ONCE = 16
"""Of those that work on this host's own disks. Each waits for one volume, at most as long as its
time limit.
"""
MOUNTS_AT_ONCE, MOUNTS_OF_ONE = 32, 4
"""Mounts of file systems of their own; those of one server or device. A server that is down delays
no volumes of another one.
"""
PROBES_AT_ONCE = 64
"""Of different binds. A file system that hangs delays no volumes."""
ANSWERED_S = 1.0
"""A probe that was answered stands for other binds of its path for so long: replicas that start
together.
"""
_KILLED_S = 2.0
"""SIGKILL ends a process in this time, unless a driver of the kernel has it."""


class Children:
    """The processes of one host."""

    def __init__(self, answer: int = VOLUME_ANSWER) -> None:
        """`answer`: the time limit, in nanoseconds, of work without another one."""
        self._answer = answer
        self._slots = asyncio.Semaphore(CHILDREN_AT_ONCE)
        self._mounting = asyncio.Semaphore(MOUNTS_AT_ONCE)
        self._of_one = WeakValueDictionary[object, asyncio.Semaphore]()
        self._probing = asyncio.Semaphore(PROBES_AT_ONCE)
        self._probes: dict[str, asyncio.Future[str]] = {}
        """Those under way by path, with the error; empty: none."""
        self._answered: dict[str, float] = {}
        """When those of the last second were answered, by path, the oldest first."""

    async def ask(self, work: str, limit: int = 0, **request: object) -> Mapping[str, Any]:
        """The answer of one process. Raises RuntimeFailed, with one line for users, if the work
        failed or has not ended within `limit` nanoseconds.
        """
        data = json.dumps({"work": work, **request}).encode()
        words = (sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()))
        if work == "mount":
            one = request.get("host") or request.get("device")
            of_one = self._of_one.setdefault(one, asyncio.Semaphore(MOUNTS_OF_ONE))
            async with of_one, self._mounting:
                out, code = await _output(work, words, data, limit or self._answer)
        else:
            async with self._slots:
                out, code = await _output(work, words, data, limit or self._answer)
        try:
            answer: Mapping[str, Any] = json.loads(out)
        except ValueError:
            raise RuntimeFailed(f"{work}: its process ended with {code}") from None
        if told := answer.get("error", ""):
            raise RuntimeFailed(told)
        return answer

    async def probe(self, path: str) -> None:
        """Return once the file system of a path has answered, whatever it answers. Raises
        RuntimeFailed if it has not within the time limit.

        A start of Python would cost more than all else of a bind. Attributes may be cached of a
        file system that hangs, what `stat -f` asks for is not.
        """
        if self._has_answered(path):
            return
        # Tasks that bind the same path wait for one process.
        while (asked := self._probes.get(path)) is not None:
            await asyncio.wait([asked])
            if not asked.cancelled():
                if told := asked.result():
                    raise RuntimeFailed(told)
                return
        asked = self._probes[path] = asyncio.get_running_loop().create_future()
        try:
            await self._probe(path)
            asked.set_result("")
            self._answered[path] = asyncio.get_running_loop().time()
        except RuntimeFailed as error:
            asked.set_result(str(error))
            raise
        finally:
            asked.cancel()  # if this task was cancelled: another one asks again
            del self._probes[path]

    def _has_answered(self, path: str) -> bool:
        now = asyncio.get_running_loop().time()
        while self._answered:
            oldest = next(iter(self._answered))
            if self._answered[oldest] > now - ANSWERED_S:
                break
            del self._answered[oldest]
        return path in self._answered

    async def _probe(self, path: str) -> None:
        ends_with_agent = ("setpriv", "--pdeathsig", "KILL", "--")
        words = (*ends_with_agent, "stat", "-f", "-c", "", "--", path)
        async with self._probing:
            await _output("probe", words, b"", self._answer)


async def _output(
    work: str, words: Sequence[str], data: bytes, limit: int
) -> tuple[bytes, int | None]:
    """What a program says, and its exit code. Raises RuntimeFailed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
        )
    except OSError as error:
        raise RuntimeFailed(f"cannot start {words[0]} on this host: {reason_of(error)}") from error
    try:
        async with asyncio.timeout(seconds(limit)):
            out, _ = await process.communicate(data)
    except TimeoutError:
        await _killed(process, work)
        raise RuntimeFailed(_silent(limit)) from None
    except BaseException:
        await _killed(process, work)
        raise
    return out, process.returncode


def _silent(limit: int) -> str:
    return f"the file system has not answered for {format_duration(limit)}"


async def _killed(process: asyncio.subprocess.Process, work: str) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    try:
        async with asyncio.timeout(_KILLED_S):
            await process.wait()
    except TimeoutError:
        _log.error("volume.child_hangs", work=work, pid=process.pid)
