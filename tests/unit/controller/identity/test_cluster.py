"""The CA of a stored cluster, and what its controllers show."""

from msgspec.structs import replace

from controller.identity import ca
from controller.identity.ca import Subject, Unit
from controller.identity.cluster import (
    converted,
    first_cluster,
    is_without_ca,
    server_identity,
    trusted_roots,
)
from controller.identity.rotation import begun, progress
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.limits import CERT_EXPIRY
from pyswarm_core.identity.tokens import digest_of, parse_join_token
from pyswarm_core.identity.trust import ders_of
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Cluster
from pyswarm_core.specs import ClusterSpec
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.envelopes import counted_nonces
from tests.fixtures.identity import FLEET, SECRET, require_issued_by


def test_a_new_cluster_has_a_ca_and_a_token_with_its_digest() -> None:
    cluster = first_cluster("c1", SECRET, NOW)
    token = parse_join_token(cluster.worker_token)
    assert token.secret == SECRET
    assert token.digest == digest_of(ca.der_of(cluster.ca.certificate))
    assert trusted_roots(cluster) == (cluster.ca.certificate,)
    assert cluster.spec.cert_expiry == 90 * 24 * HOUR
    assert first_cluster("c1", SECRET, NOW).ca.key != cluster.ca.key


def test_servers_show_their_certificate_the_root_and_the_guests() -> None:
    cluster = replace(FLEET.cluster, spec=ClusterSpec(cert_expiry=10 * HOUR))
    identity = server_identity(cluster, "c1", NOW)
    own, *above = _pems(identity.chain)
    found = ca.parse(own)
    assert found.subject == Subject(Unit.MANAGER, "c1", cluster.id)
    assert (identity.ends_at, identity.renews_at) == (NOW + 10 * HOUR, NOW + 5 * HOUR)
    root, guest = above
    assert root.decode() == cluster.ca.certificate == identity.roots.decode()
    assert ca.parse(guest).subject.unit is Unit.GUEST
    assert server_identity(cluster, "c1", NOW).key != identity.key


def test_during_a_rotation_servers_show_what_leads_to_the_former_root() -> None:
    cluster = begun(FLEET.cluster, Instant(NOW + HOUR))
    identity = server_identity(cluster, "c1", Instant(NOW + HOUR))
    own, crossed, root, _ = _pems(identity.chain)
    require_issued_by(own, (cluster.ca.certificate,))
    require_issued_by(crossed, (FLEET.cluster.ca.certificate,))
    assert root.decode() == cluster.ca.certificate
    assert ders_of(identity.roots.decode()) == tuple(map(ca.der_of, trusted_roots(cluster)))


def test_progress_tells_a_rotation_that_ended_from_none() -> None:
    state = build.state()
    for cluster, is_finished, was_rotated in (
        (FLEET.cluster, True, False),
        (rotating := begun(FLEET.cluster, NOW), False, True),
        (replace(rotating, former_roots=()), True, True),
    ):
        state.apply(Writes(cluster=cluster))
        found = progress(state)
        assert (found.is_finished, found.was_rotated) == (is_finished, was_rotated)


def _pems(chain: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----\n"
    return [part + end for part in chain.split(end) if part]


def test_data_without_a_ca_is_told_from_other_data() -> None:
    assert is_without_ca(encode(Cluster(id="c1")))
    assert not is_without_ca(counted_nonces().encode(FLEET.cluster))
    assert not is_without_ca(b"\xff no message")
    old = replace(Cluster(id="c1"), spec=replace(Cluster(id="c1").spec, cert_expiry=0))
    assert converted(old, FLEET.cluster).spec.cert_expiry == CERT_EXPIRY
