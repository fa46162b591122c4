"""The registries to pull an image from: the mirrors first, then its own registry. PURE.

As in Docker, mirrors serve docker.io only, and plain HTTP (or an untrusted certificate) is accepted
from loopback and from the registries named insecure, by HOST[:PORT] or by CIDR.
"""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import msgspec

from agent.images.base import Credentials
from pyswarm_core.docker.reference import DEFAULT_REGISTRY, Reference, parse_reference
from pyswarm_core.errors import InvalidArgument

_LOOPBACK = ("127.0.0.0/8", "::1/128", "localhost")


class FleetAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet's registries require of a node, and by what it verifies them."""

    login: Credentials | None = None
    certificates: str = ""
    """The directory with the root certificates."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A registry to copy `source` (a reference without transport) from; `own`: not a mirror.
    `repository` is its source without tag and digest.
    """

    source: str
    repository: str = ""
    registry: str
    verify_tls: bool
    own: bool
    fleet: FleetAccess | None = None
    """Of the fleet's own registry."""


def endpoints(
    reference: Reference, mirrors: tuple[str, ...], insecure: tuple[str, ...]
) -> tuple[Endpoint, ...]:
    """The registries that may have the reference, in the order to try them.

    Raises InvalidArgument if a mirror is not `http[s]://HOST[:PORT]`.
    """
    found = []
    if reference.registry == DEFAULT_REGISTRY:
        for url in mirrors:
            host, plain = _mirror(url)
            found.append(_endpoint(reference, host, insecure, plain=plain))
    return (*found, _endpoint(reference, reference.registry, insecure, own=True))


def is_insecure(registry: str, insecure: tuple[str, ...]) -> bool:
    """Whether `registry` (HOST[:PORT]) is loopback, or in `insecure` by name or CIDR."""
    host = urlsplit(f"//{registry}").hostname or ""
    return any(_covers(entry, registry, host) for entry in (*_LOOPBACK, *insecure))


def _covers(entry: str, registry: str, host: str) -> bool:
    if "/" not in entry:
        return entry in (registry, host)
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False


def _endpoint(
    reference: Reference,
    registry: str,
    insecure: tuple[str, ...],
    *,
    plain: bool = False,
    own: bool = False,
) -> Endpoint:
    moved = Reference(registry, reference.repository, reference.tag, reference.digest)
    verify = not (plain or is_insecure(registry, insecure))
    return Endpoint(
        source=moved.canonical,
        repository=moved.name,
        registry=registry,
        verify_tls=verify,
        own=own,
    )


def _mirror(url: str) -> tuple[str, bool]:
    parts = urlsplit(url)
    bare = parts._replace(path=parts.path.rstrip("/"))
    if parts.scheme not in ("http", "https") or bare.geturl() != f"{parts.scheme}://{parts.netloc}":
        raise _invalid(url, "http[s]://HOST[:PORT]")
    # A host that the grammar of references does not accept as a registry is not valid here either.
    if parse_reference(f"{parts.netloc}/x/x").registry != parts.netloc:
        raise _invalid(url, "a host with a dot or with a port")
    return parts.netloc, parts.scheme == "http"


def _invalid(url: str, expected: str) -> InvalidArgument:
    return InvalidArgument(f'--registry-mirror: value "{url}" is not valid: expected {expected}')
