"""The requests that open a byte stream, and what is valid in them. PURE.

The structs have the fields of their messages in proto/pyswarm_core/api/v1/streams.proto.
"""

import msgspec


class StreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them have. `ref` is a service, slot or task; for an agent it is the task's id."""

    ref: str


class ExecRequest(StreamRequest, frozen=True, kw_only=True):
    """Run a command in a running task."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """NAME=VALUE, added to the container's."""
    user: str = ""
    workdir: str = ""
    interactive: bool = False
    terminal: bool = False
    privileged: bool = False
    detach: bool = False
    rows: int = 0
    columns: int = 0


class AttachRequest(StreamRequest, frozen=True, kw_only=True):
    """Connect to the stdio of a task's own program."""

    stdin: bool = False
    logs: bool = False
    """Also the output from the beginning."""
    rows: int = 0
    columns: int = 0
    wait: bool = False


class PortForwardRequest(StreamRequest, frozen=True, kw_only=True):
    """Connections to a TCP port of a task."""

    port: int
