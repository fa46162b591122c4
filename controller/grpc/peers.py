"""Whom a connection's certificate names. SHELL over gRPC; gRPC has verified the certificate."""

import os
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from stat import S_IMODE
from urllib.parse import unquote

from controller.api.changes.certificates import require_key
from controller.api.changes.joining import member
from controller.grpc.calls import Context
from controller.identity.ca import Parsed, Unit, parse
from controller.identity.cluster import trusted_issuers
from pyswarm_core.errors import PermissionDenied, quoted
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Cluster, Node
from pyswarm_core.state import State

TLS = "TLSv1.3"
PARSED = 4_096
"""Certificates of which the content is kept: parsing one takes as long as a short call."""


def certificate_of(context: Context) -> Parsed | None:
    """The content of the caller's certificate; None on the Unix socket. Raises PermissionDenied for
    a connection of another version than TLS 1.3.
    """
    found = context.auth_context()
    pems = tuple(found.get("x509_pem_cert", ()))
    if not pems:
        return None
    (version,) = (one.decode() for one in found.get("ssl_tls_version", (b"",)))
    if version != TLS:
        raise PermissionDenied(f"this connection has {version}: expected {TLS}")
    return _parsed(pems[0])


def address_of(context: Context) -> str:
    """The caller's address, an IPv4-mapped one as IPv4; "" on the Unix socket."""
    kind, _, address = context.peer().partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = unquote(address).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        found = ip_address(host)
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def sockets_of(listen: Iterable[str]) -> tuple[Path, ...]:
    """The files of the Unix sockets among the addresses."""
    names = (one.removeprefix("unix:") for one in listen if one.startswith("unix:"))
    return tuple(Path(name.removeprefix("//")) for name in names)


def require_private(sockets: Iterable[Path]) -> None:
    """Raise PermissionDenied while another user than root and this controller's may open one of
    them. gRPC shows no credentials of a peer: the kernel compares them with the file's owner and
    mode when a caller connects. A file that is gone opens nothing.
    """
    for path in sockets:
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        mode = S_IMODE(found.st_mode)
        if mode & 0o177 or found.st_uid not in (0, os.geteuid()):
            raise PermissionDenied(
                f"socket {quoted(str(path))} has mode {mode:04o} and owner {found.st_uid}: others"
                f" may open it, so its callers are not root. Run `chown {os.geteuid()} {path}` and"
                f" `chmod 600 {path}`, and restart the controller, which closes what they opened"
            )


def agent_of(context: Context) -> NodeId:
    """The node of the agent that calls. Raises PermissionDenied for every other caller."""
    certificate = certificate_of(context)
    if certificate is None or certificate.subject.unit is not Unit.WORKER:
        raise PermissionDenied("only an agent with a certificate of its node may call this")
    return NodeId(certificate.subject.id)


def require_fleet(certificate: Parsed | None, cluster_id: str) -> None:
    """Raise PermissionDenied if the caller's certificate is of another fleet with the same CA."""
    if certificate is not None and certificate.subject.cluster_id != cluster_id:
        raise PermissionDenied(
            f"the certificate is of fleet {quoted(certificate.subject.cluster_id)}, this is"
            f" fleet {quoted(cluster_id)}"
        )


def require_trusted(certificate: Parsed | None, cluster: Cluster) -> None:
    """Raise PermissionDenied if the caller's certificate is of a root that is no longer trusted.
    gRPC verifies it when a connection begins; connections outlive rotations of the CA.
    """
    if certificate is None or certificate.issuer_key in trusted_issuers(cluster):
        return
    if certificate.subject.unit is Unit.WORKER:
        todo = "run `pyswarm swarm rejoin --token TOKEN HOST:2377` on the host"
    else:
        todo = "let an admin make a new context: `pyswarm context create NAME --user USER`"
    raise PermissionDenied(f"the certificate is of a former CA, which was replaced: {todo}")


@lru_cache(PARSED)
def _parsed(pem: bytes) -> Parsed:
    return parse(pem)


def calling_node(state: State, context: Context) -> Node:
    """The node whose agent calls. Raises PermissionDenied, NotFound."""
    node = member(state, agent_of(context))
    if (shown := certificate_of(context)) is not None:
        require_trusted(shown, state.cluster)
        require_key(node, shown.key_digest)
    return node
