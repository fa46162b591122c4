"""Keys of encrypted networks: made with the first, replaced in time, forgotten with the last."""

import pytest
from msgspec.structs import replace

from controller.api.changes.networks import create_network, remove_network
from controller.brain.allocator.encryption import (
    SECRET_BYTES,
    rekeyed,
    replaced,
    rotated,
    rotates_at,
    with_first_key,
)
from controller.brain.decide import decide
from controller.leader.agenda import Agenda
from pyswarm_core.clock import HOUR, MINUTE, NEVER, Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.objects import Cluster
from pyswarm_core.specs import NetworkSpec
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

SECRET = NetworkSpec(name="secret", encrypted=True)


def create(state: State, spec: NetworkSpec, start: int = 1) -> None:
    state.apply(create_network(state, spec, (), NOW, Numbered(start))[0])


def numbers(cluster: Cluster) -> list[int]:
    return [key.number for key in cluster.encryption_keys]


def test_the_first_encrypted_network_makes_a_key_and_others_share_it() -> None:
    state = build.state()
    create(state, NetworkSpec(name="plain"))
    assert numbers(state.cluster) == []
    create(state, SECRET, 10)
    key, *_ = state.cluster.encryption_keys
    assert (key.number, len(key.secret), key.created_at) == (1, SECRET_BYTES, NOW)
    create(state, replace(SECRET, name="other"), 20)
    assert list(state.cluster.encryption_keys) == [key]


def test_keys_go_with_the_last_encrypted_network() -> None:
    state = build.state()
    create(state, SECRET)
    create(state, replace(SECRET, name="other"), 20)
    state.apply(remove_network(state, "secret")[0])
    assert numbers(state.cluster) == [1]
    state.apply(remove_network(state, "other")[0])
    assert numbers(state.cluster) == []


def test_three_keys_are_kept_newest_first_and_no_secret_comes_twice() -> None:
    ids, now = Numbered(), NOW
    cluster = with_first_key(Cluster(id="c"), now, ids)
    secrets = [cluster.encryption_keys[0].secret]
    for _ in range(4):
        assert rotated(cluster, Instant(rotates_at(cluster) - 1), ids) is None
        now = rotates_at(cluster)
        following = rotated(cluster, now, ids)
        assert following is not None
        cluster = following
        secrets.append(cluster.encryption_keys[0].secret)
    assert numbers(cluster) == [5, 4, 3]
    assert len(set(secrets)) == 5
    assert cluster.encryption_keys[0].created_at == now == after(NOW, 48 * HOUR)


def test_a_key_that_is_sent_with_too_much_is_replaced_before_its_time() -> None:
    ids, now = Numbered(), NOW
    cluster = with_first_key(Cluster(id="c"), now, ids)
    for worn, kept in ((1, [2, 1]), (1, [3, 2, 1]), (2, [4, 3, 2])):
        soon = Instant(after(now, 10 * MINUTE) - 1)
        assert replaced(cluster, worn, soon, ids) is None, "somebody may not have the newest yet"
        now = after(now, 10 * MINUTE)
        assert replaced(cluster, worn - 1, now, ids) is None, "who says so has not heard"
        following = replaced(cluster, worn, now, ids)
        assert following is not None
        cluster = following
        assert numbers(cluster) == kept
    assert rotates_at(cluster) == after(now, 12 * HOUR)
    assert replaced(Cluster(id="c"), 1, now, ids) is None


def test_nothing_rotates_where_nothing_is_encrypted() -> None:
    assert rotates_at(Cluster(id="c")) == NEVER
    assert rotated(Cluster(id="c"), NOW, Numbered()) is None


@pytest.mark.parametrize("restarted", [False, True], ids=["same leader", "new leader"])
def test_the_leader_rotates_when_the_wake_comes(restarted: bool) -> None:
    state, agenda, ids = build.state(), Agenda(), Numbered(100)

    def turn(now: Instant) -> Writes:
        agenda.fall_due(now)
        dirty = agenda.take(state)
        decision = decide(state, dirty, now, ids)
        agenda.follow_up(dirty, decision)
        state.apply(decision.writes)
        return decision.writes

    writes, _ = create_network(state, SECRET, (), NOW, Numbered())
    state.apply(writes)
    agenda.add_writes(writes, state)
    turn(NOW)
    at = after(NOW, 12 * HOUR)
    assert agenda.next_wake() == at
    if restarted:
        agenda = Agenda()
        agenda.add_cluster()
    assert turn(Instant(at - 1)).cluster is None
    assert turn(at).cluster is not None
    assert numbers(state.cluster) == [2, 1]
    assert agenda.next_wake() == after(at, 12 * HOUR)


def test_other_keys_concern_encrypted_networks_alone() -> None:
    state = build.state()
    create(state, NetworkSpec(name="plain"))
    create(state, SECRET, 10)
    later = rotated(state.cluster, rotates_at(state.cluster), Numbered(50))
    assert [network.spec.name for network in rekeyed(state, Writes(cluster=later))] == ["secret"]
    same = replace(state.cluster, next_node_number=9)
    assert not rekeyed(state, Writes(cluster=same))
    assert not rekeyed(state, Writes())
