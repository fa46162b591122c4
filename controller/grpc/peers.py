"""Whom a connection's certificate names. SHELL over gRPC; gRPC has verified the certificate."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

from controller.grpc.calls import Context
from controller.identity.ca import Parsed, Unit, parse
from controller.identity.cluster import trusted_issuers
from pyswarm_core.errors import PermissionDenied, quoted
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Cluster

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
