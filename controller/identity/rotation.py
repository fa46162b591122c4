"""Replacement of the cluster's CA. PURE but for the keys that `cryptography` draws.

A rotation begins with a new root, which the former root signs as well, so that everybody who trusts
either verifies the new certificates. Agents receive both roots and renew their certificates. It
ends when no living node has a certificate of a former root, and after CA_ROTATION_MIN: then callers
with one are refused. All of its progress is stored, so that any leader continues it.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from controller.identity import ca
from pyswarm_core.clock import Instant
from pyswarm_core.errors import Conflict
from pyswarm_core.identity.limits import CA_ROTATION_MIN
from pyswarm_core.identity.tokens import JoinToken, digest_of, parse_join_token
from pyswarm_core.objects import Cluster, Node
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from pyswarm_core.views import Ca

FORMER_ROOTS_MAX = 1
"""A second rotation would need a longer chain of certificates."""


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


def with_new_token(cluster: Cluster, secret: str, now: Instant) -> Cluster:
    """The cluster with another join token: the former one is refused."""
    token = join_token(cluster.ca.certificate, secret)
    return replace(cluster, worker_token=token, updated_at=now)


def ended(state: State, now: Instant) -> Cluster | None:
    """The cluster without its former roots; None while a node that is not down needs them, and for
    CA_ROTATION_MIN after the rotation began.
    """
    cluster = state.cluster
    if not cluster.former_roots or any(_unrenewed(state, is_down=False)):
        return None
    if now < ca.made_at(cluster.ca) + CA_ROTATION_MIN:
        return None
    return replace(cluster, former_roots=(), updated_at=now)


def join_token(root: str, secret: str) -> str:
    """The join token of this secret."""
    return str(JoinToken(digest_of(ca.der_of(root)), secret))


def progress(state: State) -> Ca:
    """The newest root, and who has a certificate of it."""
    cluster = state.cluster
    nodes = sum(node.status.state is not NodeState.DOWN for node in state.nodes.values())
    return Ca(
        cluster.ca.certificate,
        digest_of(ca.der_of(cluster.ca.certificate)),
        not cluster.former_roots,
        nodes,
        tuple(node.description.hostname for node in _unrenewed(state, is_down=False)),
        tuple(node.description.hostname for node in _unrenewed(state, is_down=True)),
        bool(cluster.cross_certificate),
    )


def _unrenewed(state: State, *, is_down: bool) -> Iterator[Node]:
    issuer = ca.identifier_of(state.cluster.ca)
    for node in state.nodes.values():
        if (node.status.state is NodeState.DOWN) is is_down and node.certificate.issuer != issuer:
            yield node
