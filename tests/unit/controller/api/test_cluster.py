"""Changes of the fleet's settings: what is refused, and when an unlock key is made."""

import pytest
from msgspec.structs import replace

from controller.api.changes.cluster import rotate_unlock_key, unlock_key, update_cluster
from controller.identity.autolock import parse_unlock_key
from controller.leader.events.made import events_of
from pyswarm_core.clock import HOUR, SECOND
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.objects import Cluster, Version
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.state import State
from tests.fixtures.build import NOW

KEY = bytes(range(32))
FLEET = Cluster(id="fleet", version=Version(index=7), worker_token="token")
LOCKING = replace(FLEET, spec=ClusterSpec(autolock=True), unlock_key=KEY)
BASE = Version(index=7)


def drawn() -> bytes:
    return KEY


def test_settings_change_under_a_new_version() -> None:
    state = State(FLEET)
    spec = ClusterSpec(task_history_limit=9, cert_expiry=2 * HOUR)
    writes, told = update_cluster(state, BASE, spec, NOW, drawn)
    changed = replace(FLEET, spec=spec, version=Version(index=8), updated_at=NOW)
    assert writes == Writes(cluster=changed)
    assert (told.unlock_key, told.warnings) == ("", ())
    assert told.cluster == replace(changed, worker_token=""), "no API returns it"
    (event,) = events_of(state, writes)
    assert (event.kind, event.id, event.name) == ("cluster.update", "fleet", "default")
    assert event.reason == "task_history_limit, cert_expiry"


def test_the_same_settings_again_change_nothing() -> None:
    writes, told = update_cluster(State(FLEET), BASE, FLEET.spec, NOW, drawn)
    assert (writes, told.cluster) == (Writes(), replace(FLEET, worker_token=""))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cert_expiry": SECOND}, r'--cert-expiry: value "1s" .* expected 5s to 365d'),
        ({"subnet_size": 20}, r"--default-addr-pool-mask-length: value 20 .* only swarm init"),
        ({"data_path_port": 5000}, r"--data-path-port: value 5000 .* only swarm init sets it"),
        ({"default_address_pool": ("10.0.0.0/8",)}, r'--default-addr-pool: value "10.0.0.0/8"'),
    ],
)
def test_what_is_not_valid_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        update_cluster(State(FLEET), BASE, replace(FLEET.spec, **change), NOW, drawn)


def test_an_update_of_an_older_version_is_refused() -> None:
    with pytest.raises(Conflict, match="the cluster is at version 7, the update is based on 6"):
        update_cluster(State(FLEET), Version(index=6), ClusterSpec(autolock=True), NOW, drawn)


def test_a_short_lifetime_is_warned_of() -> None:
    spec = ClusterSpec(cert_expiry=30 * SECOND)
    _, told = update_cluster(State(FLEET), BASE, spec, NOW, drawn)
    assert len(told.warnings) == 1
    assert told.warnings[0].startswith("--cert-expiry 30s: hosts that are offline for longer")


def test_autolock_makes_a_key_and_ends_with_it() -> None:
    writes, told = update_cluster(State(FLEET), BASE, ClusterSpec(autolock=True), NOW, drawn)
    assert parse_unlock_key(told.unlock_key) == KEY
    assert writes.cluster is not None
    assert (writes.cluster.unlock_key, told.cluster.unlock_key) == (KEY, b"")
    more = replace(LOCKING.spec, task_history_limit=1)
    writes, told = update_cluster(State(LOCKING), BASE, more, NOW, lambda: bytes(32))
    assert writes.cluster is not None
    assert (writes.cluster.unlock_key, told.unlock_key) == (KEY, ""), "it has one already"
    writes, told = update_cluster(State(LOCKING), BASE, ClusterSpec(), NOW, drawn)
    assert writes.cluster is not None
    assert (writes.cluster.unlock_key, told.unlock_key) == (b"", "")


def test_the_unlock_key_is_shown_and_rotated() -> None:
    state = State(LOCKING)
    assert parse_unlock_key(unlock_key(state)) == KEY
    writes, told = rotate_unlock_key(state, NOW, lambda: bytes(32))
    assert parse_unlock_key(told) == bytes(32)
    assert writes == Writes(cluster=replace(LOCKING, unlock_key=bytes(32), updated_at=NOW))
    assert [event.reason for event in events_of(state, writes)] == ["unlock key rotated"]
    with pytest.raises(Conflict, match="no unlock key is set: pyswarm swarm update --autolock"):
        rotate_unlock_key(State(FLEET), NOW, drawn)


def test_a_join_is_no_event_of_the_cluster() -> None:
    assert events_of(State(FLEET), Writes(cluster=replace(FLEET, next_node_number=5))) == []
