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
