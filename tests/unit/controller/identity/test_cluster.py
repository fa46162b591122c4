"""The CA of a stored cluster, and what its controllers show."""

import pytest
from msgspec.structs import replace

from controller.identity import ca
from controller.identity.ca import Subject, Unit
from controller.identity.cluster import first_cluster, server_identity, trusted_roots, usable
from controller.identity.rotation import begun, progress
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.tokens import digest_of, parse_join_token
from pyswarm_core.identity.trust import ders_of
from pyswarm_core.objects import Cluster
from pyswarm_core.specs import ClusterSpec
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET, SECRET


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
    ca.require_issued_by(own, (cluster.ca.certificate,))
    ca.require_issued_by(crossed, (FLEET.cluster.ca.certificate,))
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


def test_data_without_a_ca_is_refused_with_what_to_do() -> None:
    assert usable(FLEET.cluster) is FLEET.cluster
    with pytest.raises(InvalidArgument, match="--convert"):
        usable(Cluster(id="c1"))
