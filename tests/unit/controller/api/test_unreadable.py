"""Removing objects that cannot be read, by their ids."""

import pytest

from controller.api.changes.unreadable import remove_unreadable
from controller.api.queries.lookup import Ambiguous
from pyswarm_core.kinds import SERVICE
from pyswarm_core.state import State
from tests.fixtures import build


@pytest.fixture
def state() -> State:
    found = build.state(services=[build.service("web"), build.service("dbase")])
    found.unreadable = {"service/webserver": "garbage", "service/database": "garbage"}
    return found


def test_a_name_wins_over_the_beginning_of_an_id(state: State) -> None:
    assert remove_unreadable(state, SERVICE, "web") is None


@pytest.mark.parametrize("ref", ["webserver", "webs"])
def test_it_is_named_by_its_id_or_the_beginning_of_it(state: State, ref: str) -> None:
    found = remove_unreadable(state, SERVICE, ref)
    assert found is not None
    writes, service_id = found
    assert (writes.removed, service_id) == (("service/webserver",), "webserver")


def test_the_beginning_of_another_id_too_is_ambiguous(state: State) -> None:
    with pytest.raises(Ambiguous, match="it could be database, dbase"):
        remove_unreadable(state, SERVICE, "d")
