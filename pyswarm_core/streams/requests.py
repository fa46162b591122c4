"""The requests that open a byte stream, and what is valid in them. PURE.

The structs have the fields of their messages in proto/pyswarm_core/api/v1/streams.proto.
"""

from typing import NamedTuple

import msgspec

from pyswarm_core.specs import RegistryLogin


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


class ReadVolumeRequest(StreamRequest, frozen=True, kw_only=True):
    """The archive of a volume's files, or of those at a path of it. `ref` is a volume; for an agent
    it is the volume's id.
    """

    node: str = ""
    """Of a volume with several copies, the node whose copy is meant."""
    volume: str = ""
    """For an agent: the volume's name."""
    path: str = ""
    follow: bool = False
    still: bool = False
    """A file that changes while it is read is an error."""
    hold: bool = False
    """Of a caller: the tasks that mount it are stopped meanwhile."""
    size: int = 0
    """For an agent: of a volume with a file system of its own, that of it."""
    direct: bool = False
    """For an agent: a Dial follows, before which nothing is sent."""


class WriteVolumeRequest(StreamRequest, frozen=True, kw_only=True):
    """Replace all files of a volume by those of an archive, or unpack it at a path."""

    node: str = ""
    volume: str = ""
    path: str = ""
    name: str = ""
    directory: bool = False
    archive: bool = False
    hold: bool = False
    size: int = 0
    source: str = ""
    """For an agent: the node that may send the archive directly."""


class SaveImageRequest(StreamRequest, frozen=True, kw_only=True):
    """The archive of an image of a node, as `docker save` makes it. `ref` is a name, a digest or
    an id; for an agent it is the id.
    """

    names: tuple[str, ...] = ()
    """That the archive gives to the image."""
    node: str = ""
    """Of a caller: the node that has it, by default any."""


class BuildSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of a build, for `RUN --mount=type=secret`."""

    id: str
    data: bytes

    def __repr__(self) -> str:
        return f"BuildSecret(id={self.id!r})"


class BuildImageRequest(StreamRequest, frozen=True, kw_only=True):
    """Build an image on a node, from the archive of a context. `ref` is the node; it is empty for
    an agent.
    """

    dockerfile: bytes
    name: str = "Dockerfile"
    """As errors call the file."""
    tags: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()
    """NAME=VALUE."""
    labels: tuple[str, ...] = ()
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    secrets: tuple[BuildSecret, ...] = ()
    platform: str = ""
    network: str = ""
    add_hosts: tuple[str, ...] = ()
    cache_from: str = ""
    cache_to: str = ""
    logins: tuple[RegistryLogin, ...] = ()
    """Of the registries of base images and of the cache."""


class PushImageRequest(StreamRequest, frozen=True, kw_only=True):
    """Push an image of a node to the fleet's registry. `ref` is its id."""

    name: str
    """NAME:TAG."""
    node: str = ""
    """Of a caller: the node that has it, by default any."""
    password: str = ""
    """For an agent: what each request on its connections has to show."""

    def __repr__(self) -> str:
        return f"PushImageRequest(ref={self.ref!r}, name={self.name!r})"


BUILD_FAILED = 64
"""The exit code of a build whose step failed: its output says why."""


class ReadRegistryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Connections to the fleet's registry, for requests that change nothing."""

    password: str
    """What each request on them has to show."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class WriteRegistryRequest(ReadRegistryRequest, frozen=True, kw_only=True):
    """The same, for requests that push and delete too."""


FileRequest = CopyOutRequest | CopyInRequest | ExportRequest
"""Of a container's files: it need not run."""
VolumeRequest = ReadVolumeRequest | WriteVolumeRequest
RegistryRequest = ReadRegistryRequest | WriteRegistryRequest
TaskRequest = ExecRequest | AttachRequest | PortForwardRequest | FileRequest
OpeningRequest = (
    TaskRequest | VolumeRequest | SaveImageRequest | BuildImageRequest | PushImageRequest
)


class Operation(NamedTuple):
    """An RPC of Control that is a byte stream."""

    method: str
    field: str
    """Of the first frame, and of OpenTunnel unless it is in OF_CONTROLLER: it has the request."""
    request: type[OpeningRequest | RegistryRequest]


EXEC = Operation("Exec", "exec", ExecRequest)
ATTACH = Operation("Attach", "attach", AttachRequest)
PORT_FORWARD = Operation("PortForward", "port_forward", PortForwardRequest)
COPY_OUT = Operation("CopyOut", "copy_out", CopyOutRequest)
COPY_IN = Operation("CopyIn", "copy_in", CopyInRequest)
EXPORT = Operation("Export", "export", ExportRequest)
READ_VOLUME = Operation("ReadVolume", "read_volume", ReadVolumeRequest)
WRITE_VOLUME = Operation("WriteVolume", "write_volume", WriteVolumeRequest)
SAVE_IMAGE = Operation("SaveImage", "save_image", SaveImageRequest)
BUILD_IMAGE = Operation("BuildImage", "build_image", BuildImageRequest)
PUSH_IMAGE = Operation("PushImage", "push_image", PushImageRequest)
OPERATIONS = (
    EXEC,
    ATTACH,
    PORT_FORWARD,
    COPY_OUT,
    COPY_IN,
    EXPORT,
    READ_VOLUME,
    WRITE_VOLUME,
    SAVE_IMAGE,
    BUILD_IMAGE,
    PUSH_IMAGE,
)
"""Those that an agent serves."""
READ_REGISTRY = Operation("ReadRegistry", "read_registry", ReadRegistryRequest)
WRITE_REGISTRY = Operation("WriteRegistry", "write_registry", WriteRegistryRequest)
OF_CONTROLLER = (READ_REGISTRY, WRITE_REGISTRY)
"""Those that the controller serves."""
ALL_OPERATIONS = (*OPERATIONS, *OF_CONTROLLER)
