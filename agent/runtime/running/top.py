"""Processes of a container, as `docker top` lists them: `ps` of the host. SHELL.

As in Docker, the options are those of ps(1) (default `-ef`). The processes are selected here alone,
by the pids in the container's cgroup: what the host otherwise runs is never shown. Pids and users
are the host's.
"""

import subprocess
from collections.abc import Collection, Sequence

from agent.runtime import conmon
from agent.runtime.base import ProcessTable, RuntimeFailed
from agent.runtime.running import psoptions
from pyswarm_core.errors import InvalidArgument, invalid

_TIMEOUT_S = 10.0
_OUTPUT_MAX = 1 << 20
_PID = "PID"
_ONE_WORD = frozenset(("F", "S", "UID", "USER", "PPID"))
"""Columns before that of the pids, whose values have no spaces."""


def top(pids: Collection[int], options: Sequence[str]) -> ProcessTable:
    """The processes with these pids. Raises InvalidArgument for the options, RuntimeFailed if the
    host has no ps.
    """
    form = psoptions.read(options)
    chosen = ("-o", ",".join(("pid", *form.columns))) if form.columns else ()
    done = _run(("-p", ",".join(map(str, sorted(pids))), *form.words, *chosen))
    if done.returncode and done.stderr:
        words = " ".join(done.stderr.decode(errors="replace").split())
        said = words.partition(" Usage:")[0]
        raise invalid("PS_OPTIONS", " ".join(options), f"ps: {said.removeprefix('error: ')}")
    if len(done.stdout) > _OUTPUT_MAX:
        raise InvalidArgument(f"ps wrote more than {_OUTPUT_MAX} bytes: use fewer columns")
    text = done.stdout.decode(errors="replace")
    return parse(text, pids, is_first_ours=bool(chosen))


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


def parse(text: str, pids: Collection[int], *, is_first_ours: bool = False) -> ProcessTable:
    """The table that `ps` wrote, with these pids alone. The last column holds the rest of a line.
    `is_first_ours`: the first column has the pids and is not shown.

    Raises InvalidArgument if the lines of the processes cannot be told by their pid.
    """
    header, _, body = text.partition("\n")
    titles = tuple(header.split())
    column = titles.index(_PID) if _PID in titles else -1
    if column < 0 or not _ONE_WORD.issuperset(titles[:column]):
        raise invalid("PS_OPTIONS", header, "expected a column PID after columns of one word each")
    rows = (tuple(line.split(None, len(titles) - 1)) for line in body.split("\n"))
    return ProcessTable(
        titles=titles[is_first_ours:],
        rows=tuple(
            row[is_first_ours:]
            for row in rows
            if len(row) > column and row[column].isdecimal() and int(row[column]) in pids
        ),
    )
