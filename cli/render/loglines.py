"""Log lines as `service logs` prints them: `web.1.r7kt…@host1    | text`. PURE.

As in Docker, the output of processes is printed unchanged, escape codes included.
"""

import msgspec

from pyswarm_core.docker.units import format_time
from pyswarm_core.ids import short
from pyswarm_core.views import LogLine, Logs

STDERR = 2


class Form(msgspec.Struct, frozen=True):
    """The prefix of each line."""

    timestamps: bool = False
    prefix: bool = True
    task_ids: bool = True
    resolve: bool = True
    truncate: bool = True


def rendered(batch: Logs, form: Form) -> tuple[bytes, bytes]:
    """The bytes for stdout and those for stderr."""
    before = _prefix(batch, form)
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for line in batch.lines:
        parts[line.stream == STDERR].append(_line(line, before, form))
    return b"".join(parts[0]), b"".join(parts[1])


def _prefix(batch: Logs, form: Form) -> bytes:
    if not form.prefix:
        return b""
    task = short(batch.task_id) if form.truncate else batch.task_id
    # The full name of a task ends with its id.
    named = batch.task_name.removesuffix(f".{batch.task_id}")
    name = named if form.resolve else task
    if form.task_ids and form.resolve:
        name = f"{name}.{task}"
    node = f"@{batch.node_name}" if batch.node_name else ""
    return f"{name}{node}    | ".encode()


def _line(line: LogLine, before: bytes, form: Form) -> bytes:
    at = f"{format_time(line.at)} ".encode() if form.timestamps else b""
    text = line.text if line.text.endswith(b"\n") else line.text + b"\n"
    return at + before + text
