"""Processes of a container, as `docker top` lists them: `ps` of the host. SHELL.

As in Docker, the options are those of ps(1) (default `-ef`), and the answer has the lines of
processes that are in the container's cgroup. Pids and users are the host's.
"""

import re
import subprocess
from collections.abc import Collection, Sequence

from agent.runtime import conmon
from agent.runtime.base import ProcessTable, RuntimeFailed
from pyswarm_core.errors import InvalidArgument, invalid

DEFAULT = ("-ef",)
_TIMEOUT_S = 10.0
_OUTPUT_MAX = 1 << 20
_PID = "PID"
_RENAMED = re.compile(r"(^|,)\s*pid\s*=", re.IGNORECASE)
"""Docker refuses a column PID of another name or content: by it lines are recognised."""


def top(pids: Collection[int], options: Sequence[str]) -> ProcessTable:
    """The processes with these pids. Raises InvalidArgument for the options, RuntimeFailed if the
    host has no ps.
    """
    words = tuple(options) or DEFAULT
    _check(words)
    done = _run((*words, "-q", ",".join(map(str, sorted(pids)))))
    if done.returncode:  # some options, such as `f`, exclude -q
        done = _run(words)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise invalid("PS_OPTIONS", " ".join(words), f"ps: {said.removeprefix('error: ')}")
    if len(done.stdout) > _OUTPUT_MAX:
        raise InvalidArgument(f"ps wrote more than {_OUTPUT_MAX} bytes: use fewer columns")
    return parse(done.stdout.decode(errors="replace"), pids)


def _run(words: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(
            ("ps", *words),
            env=conmon.ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise RuntimeFailed("the container's host has no program ps (package procps)") from None
    except subprocess.TimeoutExpired:
        raise RuntimeFailed(f"ps did not end within {_TIMEOUT_S:g} s") from None


def _check(words: Sequence[str]) -> None:
    for word in words:
        if _RENAMED.search(word.lstrip("-").removeprefix("o")):
            reason = 'expected the column "pid" with its own header'
            raise invalid("PS_OPTIONS", word, reason)


def parse(text: str, pids: Collection[int]) -> ProcessTable:
    """The table that `ps` wrote, with these pids alone. The last column holds the rest of a line.

    Raises InvalidArgument without a column PID.
    """
    header, _, body = text.partition("\n")
    titles = tuple(header.split())
    if _PID not in titles:
        raise invalid("PS_OPTIONS", header, "expected output with a column PID; add `-o pid`")
    column = titles.index(_PID)
    rows = (tuple(line.split(None, len(titles) - 1)) for line in body.split("\n"))
    return ProcessTable(
        titles=titles,
        rows=tuple(
            row
            for row in rows
            if len(row) > column and row[column].isdecimal() and int(row[column]) in pids
        ),
    )
