"""Replacement of the cluster's CA. PURE but for the keys that `cryptography` draws.

A rotation begins with a new root, which the former root signs as well, so that everybody who trusts
either verifies the new certificates. Agents receive both roots and renew their certificates. It
ends when no living node has a certificate of a former root: then callers with one are refused. All
of its progress is stored, so that any leader continues it.
"""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from controller.identity import ca
from pyswarm_core.clock import Instant
from pyswarm_core.errors import Conflict
from pyswarm_core.identity.tokens import JoinToken, digest_of, parse_join_token
from pyswarm_core.objects import Cluster, Node
from pyswarm_core.state import State
from pyswarm_core.states import NodeState

FORMER_ROOTS_MAX = 1
"""A second rotation would need a longer chain of certificates."""


class Rotation(msgspec.Struct, frozen=True):
    """How far the nodes are with the newest root."""

    certificate: str
    """The root (PEM)."""
    digest: str
    """As in join tokens."""
    is_finished: bool
    nodes: int = 0
    """All nodes that are not down."""
    left: tuple[str, ...] = ()
    """Hostnames of those that have a certificate of a former root."""
    down: tuple[str, ...] = ()
    """Hostnames of nodes that are down and have one: they renew when they return."""


def begun(cluster: Cluster, now: Instant) -> Cluster:
    """The cluster with a new CA and join token. Raises Conflict during a rotation."""
    if len(cluster.former_roots) >= FORMER_ROOTS_MAX:
        raise Conflict(
            "a rotation of the CA is in progress: wait until all nodes have renewed their"
            " certificates (`pyswarm swarm ca --status` lists those that have not)"
        )
    authority = ca.new_authority(cluster.id, now)
    secret = parse_join_token(cluster.worker_token).secret
    return replace(
        cluster,
        ca=authority,
        former_roots=(cluster.ca.certificate, *cluster.former_roots),
        cross_certificate=ca.cross_signed(authority, cluster.ca, now),
        worker_token=join_token(authority.certificate, secret),
        updated_at=now,
    )


def ended(state: State, now: Instant) -> Cluster | None:
    """The cluster without its former roots; None while a node that is not down needs them."""
    cluster = state.cluster
    if not cluster.former_roots or any(_unrenewed(state, is_down=False)):
        return None
    return replace(cluster, former_roots=(), updated_at=now)


def join_token(root: str, secret: str) -> str:
    """The join token of this secret."""
    return str(JoinToken(digest_of(ca.der_of(root)), secret))


def progress(state: State) -> Rotation:
    """The newest root, and who has a certificate of it."""
    cluster = state.cluster
    nodes = sum(node.status.state is not NodeState.DOWN for node in state.nodes.values())
    return Rotation(
        cluster.ca.certificate,
        digest_of(ca.der_of(cluster.ca.certificate)),
        not cluster.former_roots,
        nodes,
        tuple(node.description.hostname for node in _unrenewed(state, is_down=False)),
        tuple(node.description.hostname for node in _unrenewed(state, is_down=True)),
    )


def _unrenewed(state: State, *, is_down: bool) -> Iterator[Node]:
    issuer = ca.identifier_of(state.cluster.ca)
    for node in state.nodes.values():
        if (node.status.state is NodeState.DOWN) is is_down and node.certificate.issuer != issuer:
            yield node
