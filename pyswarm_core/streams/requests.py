"""The requests that open a byte stream, and what is valid in them. PURE.

The structs have the fields of their messages in proto/pyswarm_core/api/v1/streams.proto.
"""

from typing import NamedTuple

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
    rows: int = 0
    columns: int = 0
    wait: bool = False
    """Attach as soon as the container exists, instead of refusing a task that does not run yet."""


class PortForwardRequest(StreamRequest, frozen=True, kw_only=True):
    """Connections to a TCP port of a task."""

    port: int


class CopyOutRequest(StreamRequest, frozen=True, kw_only=True):
    """The archive of the files at a path of a container."""

    path: str
    follow: bool = False
    """What a symbolic link at the end of the path names is copied, not the link."""


class CopyInRequest(StreamRequest, frozen=True, kw_only=True):
    """Unpack an archive at a path of a container."""

    path: str
    name: str = ""
    """The name of the archive's top; empty: it has the content of a directory."""
    directory: bool = False
    archive: bool = False
    """It is a user's, of any content; the path is an existing directory."""


class ExportRequest(StreamRequest, frozen=True, kw_only=True):
    """The archive of all files of a container."""


FileRequest = CopyOutRequest | CopyInRequest | ExportRequest
"""Of a container's files: it need not run."""
OpeningRequest = ExecRequest | AttachRequest | PortForwardRequest | FileRequest


class Operation(NamedTuple):
    """An RPC of Control that is a byte stream."""

    method: str
    field: str
    """Of the first frame, and of OpenTunnel: it has the request."""
    request: type[OpeningRequest]


EXEC = Operation("Exec", "exec", ExecRequest)
ATTACH = Operation("Attach", "attach", AttachRequest)
PORT_FORWARD = Operation("PortForward", "port_forward", PortForwardRequest)
COPY_OUT = Operation("CopyOut", "copy_out", CopyOutRequest)
COPY_IN = Operation("CopyIn", "copy_in", CopyInRequest)
EXPORT = Operation("Export", "export", ExportRequest)
OPERATIONS = (EXEC, ATTACH, PORT_FORWARD, COPY_OUT, COPY_IN, EXPORT)
