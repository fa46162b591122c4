"""Certificates of nodes, as their objects name them. PURE."""

import msgspec

from controller.identity.ca import (
    Unit,
    identifier_of,
    key_digest,
    parse,
    public_key_of,
    require_proof,
)
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, PermissionDenied, quoted
from pyswarm_core.identity.certificates import NodeCertificate
from pyswarm_core.identity.limits import RENEWED_WITHIN
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Cluster, Node
from pyswarm_core.state import State
from pyswarm_core.states import NodeState


def certificate_of(cluster: Cluster, key_digest: str, now: Instant) -> NodeCertificate:
    """The certificate that is issued for this key now."""
    return NodeCertificate(
        expires_at=Instant(now + cluster.spec.cert_expiry),
        issued_at=now,
        key_digest=key_digest,
        issuer=identifier_of(cluster.ca),
    )


class Proof(msgspec.Struct, frozen=True):
    """An expired certificate (PEM), and the signature of a new request by its key."""

    certificate: bytes
    csr: bytes
    signature: bytes

    @property
    def key_digest(self) -> str:
        """Of the requested key, which signed the request. Raises InvalidArgument."""
        return key_digest(public_key_of(self.csr))


def proven_node(state: State, proof: Proof, now: Instant) -> NodeId:
    """The node whose newest certificate has this key. The certificate may have expired, or be of a
    root that is no longer trusted: the key is the one that the node's object names.

    If the answer to a renewal was lost, the object names the requested key: the same request again
    needs no other proof. It only brings a certificate for that key.

    Raises PermissionDenied, NotFound, InvalidArgument.
    """
    former = parse(proof.certificate)
    node = _node(state, NodeId(former.subject.id))
    newest = node.certificate.key_digest
    is_repeated = proof.key_digest == newest
    if former.subject.unit is not Unit.WORKER or not (is_repeated or former.key_digest == newest):
        raise PermissionDenied("this is not the newest certificate of the node: join again")
    # Not `former.expires_at`: whoever has the key can make a certificate with any end.
    if now > node.certificate.expires_at + RENEWED_WITHIN:
        days = RENEWED_WITHIN // (24 * HOUR)
        raise PermissionDenied(
            f"the node's certificate expired more than {days} days ago: run `pyswarm swarm rejoin"
            " --token TOKEN HOST:2377` on the host"
        )
    if not is_repeated:
        require_proof(proof.certificate, proof.csr, proof.signature)
    return node.id


class Rejoin(msgspec.Struct, frozen=True):
    """A request of a host with a join token for a certificate of a node that exists."""

    node_id: NodeId
    proof: Proof | None = None


def rejoining(state: State, rejoin: Rejoin, now: Instant) -> NodeId:
    """The node whose host showed a valid join token. Without a proof of its key it must be down:
    otherwise any host with the token could take the place of a running one.

    Raises NotFound, PermissionDenied, Conflict.
    """
    node = _node(state, rejoin.node_id)
    if is_proven(state, rejoin):
        return node.id
    if node.status.state is not NodeState.DOWN:
        raise Conflict(
            f"node {quoted(node.description.hostname)} is {node.status.state}, and this host cannot"
            " prove that it is that node: rejoin when the node is down"
        )
    return node.id


def is_proven(state: State, rejoin: Rejoin) -> bool:
    """Whether the host proves that it has the node's newest key, or repeats its request for that.

    Raises NotFound, PermissionDenied, InvalidArgument.
    """
    newest, proof = _node(state, rejoin.node_id).certificate.key_digest, rejoin.proof
    if proof is None:
        return False
    if proof.key_digest == newest:
        return True
    if parse(proof.certificate).key_digest != newest:
        return False
    require_proof(proof.certificate, proof.csr, proof.signature)
    return True


def require_key(node: Node, shown: str) -> None:
    """Raise PermissionDenied unless this is the digest of the node's newest key, or of the one
    before: the answer to a renewal may be lost, and sessions go on after it.
    """
    if not shown or shown not in (node.certificate.key_digest, node.certificate.former_key_digest):
        raise PermissionDenied(
            f"the certificate has a former key of node {quoted(node.description.hostname)}: run"
            " `pyswarm swarm rejoin --token TOKEN HOST:2377` on the host"
        )


def require_newest_key(node: Node, shown: str, requested: str) -> None:
    """Raise PermissionDenied unless the agent that shows one key may have a certificate for the
    other: it shows the newest key, or repeats the request of which the answer was lost.
    """
    require_key(node, shown)
    newest = node.certificate.key_digest
    if newest not in (shown, requested):
        raise PermissionDenied("this is not the newest certificate of the node: join again")


def renewed(
    state: State, node_id: NodeId, key_digest: str, now: Instant, *, keeps_former: bool = True
) -> tuple[Writes, Node]:
    """The node with a new certificate. Its former key stays valid for the agent's calls until the
    next renewal, if `keeps_former`. Raises NotFound.
    """
    node = _node(state, node_id)
    old = node.certificate
    former = old.former_key_digest if old.key_digest == key_digest else old.key_digest
    certificate = msgspec.structs.replace(
        certificate_of(state.cluster, key_digest, now),
        former_key_digest=former if keeps_former else "",
    )
    node = msgspec.structs.replace(node, certificate=certificate)
    return Writes(objects=(node,)), node


def _node(state: State, node_id: NodeId) -> Node:
    if (node := state.nodes.get(node_id)) is None:
        raise NotFound(
            f"node {quoted(node_id)} is not in this cluster: run `pyswarm swarm leave`,"
            " then `pyswarm swarm join` on the host"
        )
    return node
