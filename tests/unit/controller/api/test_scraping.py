"""The token that callers of metrics show."""

from hashlib import sha256

from controller.api.changes.scraping import rotate_scrape_token
from controller.identity.cluster import first_cluster
from controller.leader.sessions import Sessions
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.state import State
from tests.fixtures.build import Numbered as Ids

NOW = Instant(1_800_000_000 * SECOND)
FLEET = first_cluster("fleet", "s" * 25, NOW, "m" * 25)


def test_a_fleet_has_a_token_from_its_beginning() -> None:
    assert FLEET.scrape_token == f"PYSWS-1-{'m' * 25}"


def test_rotation_replaces_it() -> None:
    state = State(FLEET)
    writes, token = rotate_scrape_token(state, Instant(NOW + 1), Ids())
    state.apply(writes)
    assert state.cluster.scrape_token == token != FLEET.scrape_token
    assert token.startswith("PYSWS-1-")
    assert state.cluster.version.index == FLEET.version.index + 1
    assert state.cluster.worker_token == FLEET.worker_token


def test_nobody_is_shown_the_token_with_the_cluster() -> None:
    assert CLUSTER.shown(FLEET).scrape_token == ""


def test_agents_receive_its_digest_alone() -> None:
    sent = Sessions(()).settings(FLEET, SECOND)
    assert sent.settings.scrape_digest == sha256(FLEET.scrape_token.encode()).digest()
    assert FLEET.scrape_token.encode() not in sent.SerializeToString()


def test_without_a_token_agents_receive_none() -> None:
    sent = Sessions(()).settings(first_cluster("fleet", "s" * 25, NOW), SECOND)
    assert sent.settings.scrape_digest == b""
