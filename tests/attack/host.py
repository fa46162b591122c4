"""One hostile host without an identity: floods of one controller over TLS, and what others see."""

import resource
import tempfile
from pathlib import Path
from typing import NamedTuple

from pyswarm_core.limits import RECEIVED_PER_CALLER, TUNNEL_FRAME_BYTES
from tests.integration.controller.attacks.floods import FLOODS, Outcome, Scale, suffer
from tests.integration.controller.attacks.target import running

CONNECTIONS = 10_000
STREAMS = 500
CONNECTION_BYTES = 128 * 1024
"""The most that a connection may cost; 64 KiB were measured, 87 while many connect at once."""
GROWTH_MAX = RECEIVED_PER_CALLER * TUNNEL_FRAME_BYTES + (64 << 20)
MIB = 1 << 20


class Row(NamedTuple):
    """A flood and its outcome."""

    name: str
    outcome: Outcome

    def __str__(self) -> str:
        calls, outcome = self.outcome.calls, self.outcome
        return (
            f"{self.name:20} {outcome.told:58} {len(calls.took_s):4d} calls of others,"
            f" {len(calls.errors)} failed, p99 {1000 * calls.p99_s:4.0f} ms;"
            f" memory {outcome.before // MIB} to {outcome.most // MIB} MiB"
        )


def flooded(seconds: float) -> list[Row]:
    """Each flood for its part of the time, on a controller of its own."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    scale = Scale(seconds / len(FLOODS), CONNECTIONS, STREAMS)
    rows = []
    for name, flood in FLOODS.items():
        with (
            tempfile.TemporaryDirectory(prefix="pyswarm-flood-") as folder,
            running(Path(folder)) as target,
        ):
            rows.append(Row(name, suffer(target, flood, scale)))
    return rows


def broken(rows: list[Row]) -> list[str]:
    """What must not have happened and did, in a line each; independent of the machine's speed."""
    found = []
    for name, outcome in rows:
        most = GROWTH_MAX
        if name.endswith("connections"):
            most += CONNECTIONS * CONNECTION_BYTES
        grown = outcome.most - outcome.before
        if grown > most:
            found.append(f"{name}: memory grew by {grown // MIB} MiB, at most {most // MIB}")
        found += [f"{name}: a call of another: {error}" for error in outcome.calls.errors[:3]]
        if not outcome.calls.took_s:
            found.append(f"{name}: others made no call")
    return found
