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
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import RENEWED_WITHIN
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
    if rejoin.proof is not None:
        if rejoin.proof.key_digest == node.certificate.key_digest:
            return node.id
        former = parse(rejoin.proof.certificate)
        if former.key_digest == node.certificate.key_digest:
            require_proof(rejoin.proof.certificate, rejoin.proof.csr, rejoin.proof.signature)
            return node.id
    if node.status.state is not NodeState.DOWN:
        raise Conflict(
            f"node {quoted(node.description.hostname)} is {node.status.state}, and this host cannot"
            " prove that it is that node: rejoin when the node is down"
        )
    return node.id


def renewed(state: State, node_id: NodeId, key_digest: str, now: Instant) -> tuple[Writes, Node]:
    """The node with a new certificate. Raises NotFound."""
    certificate = certificate_of(state.cluster, key_digest, now)
    node = msgspec.structs.replace(_node(state, node_id), certificate=certificate)
    return Writes(objects=(node,)), node


def _node(state: State, node_id: NodeId) -> Node:
    if (node := state.nodes.get(node_id)) is None:
        raise NotFound(
            f"node {quoted(node_id)} is not in this cluster: run `pyswarm swarm leave`,"
            " then `pyswarm swarm join` on the host"
        )
    return node
