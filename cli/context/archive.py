"""A context as a tar archive. PURE: bytes in, bytes out.

An archive may come from anybody: only members of known names that are files within a limit are
read, and nothing is unpacked to a path of the archive's choice.
"""

import tarfile
from io import BytesIO

import msgspec

from cli.context.model import Context, Material, checked
from pyswarm_core.errors import InvalidArgument, quoted

META = "meta.json"
MEMBERS = {
    "tls/docker/ca.pem": "ca",
    "tls/docker/cert.pem": "cert",
    "tls/docker/key.pem": "key",
    "tls/docker/token": "token",
}
"""The field of Material of each other member."""
MEMBER_MAX = 256 << 10
"""Bytes of a member."""
MEMBERS_MAX = 16
"""Members, folders included."""
ARCHIVE_MAX = 2 << 20
"""Bytes of an archive."""
_FOLDERS = ("tls", "tls/docker")


class _Endpoint(msgspec.Struct, frozen=True, rename="pascal"):
    host: str


class _Metadata(msgspec.Struct, frozen=True, rename="pascal"):
    description: str = ""


class _Meta(msgspec.Struct, frozen=True, rename="pascal"):
    """Docker's document."""

    name: str
    endpoints: dict[str, _Endpoint]
    metadata: _Metadata = _Metadata()


def packed(context: Context) -> bytes:
    """The archive of a context: host, description and credentials, in Docker's form."""
    meta = _Meta(context.name, {"docker": _Endpoint(context.host)}, _Metadata(context.description))
    files = {META: msgspec.json.encode(meta)}
    for name, field in MEMBERS.items():
        if text := getattr(context.material, field):
            files[name] = text.encode()
    target = BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, BytesIO(content))
    return target.getvalue()


def unpacked(content: bytes) -> Context:
    """The context of an archive, without a name. Raises InvalidArgument."""
    if len(content) > ARCHIVE_MAX:
        raise InvalidArgument(f"the archive is larger than {ARCHIVE_MAX >> 20} MiB")
    try:
        files = _files(content)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise InvalidArgument(f"the archive is not a tar archive: {error}") from None
    if META not in files:
        raise InvalidArgument(f"the archive has no {META}: `pyswarm context export` makes archives")
    try:
        meta = msgspec.json.decode(files.pop(META), type=_Meta)
        texts = {MEMBERS[name]: text.decode("ascii") for name, text in files.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"the archive is damaged: {error}") from None
    if "docker" not in meta.endpoints:
        raise InvalidArgument(f"{META} of the archive: expected Endpoints.docker.Host")
    host = checked(meta.endpoints["docker"].host, f"Endpoints.docker.Host of {META}")
    return Context(
        name="", host=host, description=meta.metadata.description, material=Material(**texts)
    )


def _files(content: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=BytesIO(content), mode="r:") as tar:
        for count, member in enumerate(tar, 1):
            name = member.name
            if count > MEMBERS_MAX:
                raise InvalidArgument(f"the archive has more than {MEMBERS_MAX} members")
            if member.isdir() and name in _FOLDERS:
                continue
            if name != META and name not in MEMBERS:
                expected = ", ".join((META, *MEMBERS))
                raise InvalidArgument(
                    f"the archive has an unexpected member {quoted(name)}: expected {expected}"
                )
            if not member.isreg() or member.issparse():
                raise InvalidArgument(f"member {quoted(name)} of the archive is not a plain file")
            if name in files:
                raise InvalidArgument(f"the archive has member {quoted(name)} twice")
            if member.size > MEMBER_MAX:
                raise InvalidArgument(
                    f"member {quoted(name)} of the archive is larger than {MEMBER_MAX >> 10} KiB"
                )
            stream = tar.extractfile(member)
            files[name] = stream.read(MEMBER_MAX) if stream is not None else b""
    return files
