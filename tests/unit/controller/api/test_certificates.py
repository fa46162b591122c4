"""Which certificates nodes get, and what proves that a host is its node."""

import pytest
from msgspec.structs import replace

from controller.api.changes.certificates import (
    Proof,
    Rejoin,
    certificate_of,
    is_proven,
    proven_node,
    rejoining,
    renewed,
    require_key,
    require_newest_key,
)
from controller.identity import ca
from controller.identity.ca import Unit
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, NotFound, PermissionDenied
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET, Pki, another, signed

LIFETIME = 24 * HOUR
LATER = Instant(NOW + LIFETIME + HOUR)
KEY = ca.new_key()
CSR = ca.csr_pem(ca.new_key())


def world(key: ca.PrivateKey = KEY) -> State:
    """Node n1 has a certificate of a day for this key."""
    certificate = certificate_of(
        replace(FLEET.cluster, spec=replace(FLEET.cluster.spec, cert_expiry=LIFETIME)),
        ca.key_digest(key.public_key()),
        NOW,
    )
    state = build.state(nodes=[replace(build.node("n1"), certificate=certificate)])
    state.apply(Writes(cluster=FLEET.cluster))
    return state


def proof(
    key: ca.PrivateKey = KEY,
    *,
    pki: Pki = FLEET,
    unit: Unit = Unit.WORKER,
    node: str = "n1",
    lifetime: int = LIFETIME,
    signer: ca.PrivateKey | None = None,
) -> Proof:
    pem = pki.issued(unit, node, key=key, now=NOW, lifetime=lifetime).cert_pem
    return Proof(pem, CSR, signed(ca.key_pem(signer or key), CSR))


def test_a_certificate_is_recorded_as_it_is_issued() -> None:
    found = certificate_of(FLEET.cluster, "d" * 64, NOW)
    assert (found.issued_at, found.key_digest) == (NOW, "d" * 64)
    assert found.expires_at == NOW + FLEET.cluster.spec.cert_expiry
    assert found.issuer == ca.identifier_of(FLEET.cluster.ca)
    assert found.issuer != ca.identifier_of(another(FLEET.cluster.id).cluster.ca)


def test_a_node_that_renews_has_the_newer_certificate_and_nothing_else_new() -> None:
    state = world()
    writes, node = renewed(state, NodeId("n1"), "e" * 64, LATER)
    assert writes.objects == (node,)
    newest = certificate_of(FLEET.cluster, "e" * 64, LATER)
    former = ca.key_digest(KEY.public_key())
    assert node.certificate == replace(newest, former_key_digest=former)
    assert replace(node, certificate=state.nodes[NodeId("n1")].certificate) == state.nodes["n1"]  # type: ignore[index]
    with pytest.raises(NotFound, match="swarm leave`, then `pyswarm swarm join`"):
        renewed(state, NodeId("n2"), "e" * 64, LATER)


def test_a_key_proves_its_node_for_thirty_days_after_its_certificate() -> None:
    state, days = world(), 30 * 24 * HOUR
    end = NOW + LIFETIME
    for now in (NOW, end, end + SECOND, end + days):
        assert proven_node(state, proof(), Instant(now)) == "n1"
    with pytest.raises(PermissionDenied, match="more than 30 days ago: run `pyswarm swarm rejoin"):
        proven_node(state, proof(), Instant(end + days + SECOND))


def test_a_certificate_that_claims_a_later_end_proves_nothing_more() -> None:
    """Whoever has a key can make a certificate with any text."""
    longer = proof(pki=another(FLEET.cluster.id), lifetime=1_000 * LIFETIME)
    with pytest.raises(PermissionDenied, match="more than 30 days ago"):
        proven_node(world(), longer, Instant(NOW + 32 * 24 * HOUR))


def test_a_stolen_certificate_without_its_key_proves_nothing() -> None:
    with pytest.raises(PermissionDenied, match="no signature of the request"):
        proven_node(world(), proof(signer=ca.new_key()), LATER)
    other = replace(proof(), csr=ca.csr_pem(ca.new_key()))
    with pytest.raises(PermissionDenied, match="no signature of the request"):
        proven_node(world(), other, LATER)


@pytest.mark.parametrize(
    ("shown", "error", "text"),
    [
        (proof(ca.new_key()), PermissionDenied, "not the newest certificate"),
        (proof(pki=another()), None, ""),  # only the key counts
        (proof(ca.new_key(), pki=another()), PermissionDenied, "not the newest certificate"),
        (proof(unit=Unit.USER), PermissionDenied, "not the newest certificate"),
        (proof(unit=Unit.GUEST), PermissionDenied, "not the newest certificate"),
        (proof(unit=Unit.MANAGER), PermissionDenied, "not the newest certificate"),
        (proof(node="n2"), NotFound, "swarm leave`, then `pyswarm swarm join`"),
        (Proof(b"junk", CSR, b""), InvalidArgument, "no certificate of a cluster"),
        (Proof(b"", CSR, b""), InvalidArgument, "no certificate of a cluster"),
    ],
)
def test_other_certificates_prove_no_node(
    shown: Proof, error: type[Exception] | None, text: str
) -> None:
    if error is None:
        assert proven_node(world(), shown, LATER) == "n1"
        return
    with pytest.raises(error, match=text):
        proven_node(world(), shown, LATER)


def test_the_answer_of_a_renewal_may_be_lost() -> None:
    """The object names the new key, the host shows its former certificate and the same request."""
    state = world()
    again = proof()
    writes, _ = renewed(state, NodeId("n1"), again.key_digest, LATER)
    state.apply(writes)
    assert proven_node(state, again, LATER) == "n1"
    assert rejoining(state, Rejoin(NodeId("n1"), again), LATER) == "n1"
    with pytest.raises(PermissionDenied, match="more than 30 days ago"):
        proven_node(state, again, Instant(LATER + 130 * 24 * HOUR))
    own = ca.csr_pem(ca.new_key())
    thief = Proof(again.certificate, own, signed(ca.key_pem(KEY), own))
    with pytest.raises(PermissionDenied, match="not the newest certificate"):
        proven_node(state, thief, LATER)
    with pytest.raises(PermissionDenied, match="not the newest certificate"):
        proven_node(state, proof_of_unit(again, Unit.USER), LATER)


def proof_of_unit(given: Proof, unit: Unit) -> Proof:
    return replace(given, certificate=FLEET.issued(unit, "n1", now=NOW).cert_pem)


def test_an_older_certificate_proves_nothing_once_there_is_a_newer_one() -> None:
    state, newer = world(), ca.new_key()
    writes, _ = renewed(state, NodeId("n1"), ca.key_digest(newer.public_key()), NOW)
    state.apply(writes)
    assert proven_node(state, proof(newer), LATER) == "n1"
    with pytest.raises(PermissionDenied, match="not the newest certificate"):
        proven_node(state, proof(), LATER)


def renew(state: State, key: str, *, keeps_former: bool = True) -> Node:
    writes, node = renewed(state, NodeId("n1"), key, LATER, keeps_former=keeps_former)
    state.apply(writes)
    return node


def test_an_agent_calls_with_its_newest_key_or_the_one_before() -> None:
    state, first = world(), ca.key_digest(KEY.public_key())
    node = renew(state, "b" * 64)
    for shown in (first, "b" * 64):
        require_key(node, shown)
    node = renew(state, "b" * 64)  # the same request again
    require_key(node, first)
    node = renew(state, "c" * 64)
    require_key(node, "b" * 64)
    for shown in (first, "d" * 64):
        with pytest.raises(PermissionDenied, match=r"a former key of node .*`pyswarm swarm rejoin"):
            require_key(node, shown)


def test_an_agent_renews_with_its_newest_key_or_asks_for_that_again() -> None:
    state, first = world(), ca.key_digest(KEY.public_key())
    node = renew(state, "b" * 64)
    require_newest_key(node, "b" * 64, "c" * 64)
    require_newest_key(node, first, "b" * 64)  # the answer was lost
    with pytest.raises(PermissionDenied, match="not the newest certificate"):
        require_newest_key(node, first, "c" * 64)
    with pytest.raises(PermissionDenied, match="a former key of node"):
        require_newest_key(node, "d" * 64, "b" * 64)


def test_a_rejoin_without_proof_of_the_former_key_ends_it() -> None:
    state, first = world(), ca.key_digest(KEY.public_key())
    assert is_proven(state, Rejoin(NodeId("n1"), proof()))
    assert not is_proven(state, Rejoin(NodeId("n1")))
    assert not is_proven(state, Rejoin(NodeId("n1"), proof(ca.new_key())))
    with pytest.raises(PermissionDenied, match="no signature of the request"):
        is_proven(state, Rejoin(NodeId("n1"), proof(signer=ca.new_key())))
    node = renew(state, "b" * 64, keeps_former=False)
    require_key(node, "b" * 64)
    for shown in (first, ""):
        with pytest.raises(PermissionDenied, match="a former key of node"):
            require_key(node, shown)
