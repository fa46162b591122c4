"""One table leads from errors to gRPC statuses, to names in tunnels, and back."""

from typing import Any

import grpc
import pytest

from pyswarm_core import errors
from pyswarm_core.aio.status import CODES, code_of, error_named, name_of


def subclasses(of: type[errors.PyswarmError] = errors.PyswarmError) -> list[type[Any]]:
    """Those that cross a border: Taken does as a Conflict, and the store has some of its own."""
    found = [kind for kind in of.__subclasses__() if kind.__module__ == errors.__name__]
    found = [kind for kind in found if kind is not errors.Taken]
    return found + [deeper for kind in found for deeper in subclasses(kind)]


def test_every_error_has_a_code_of_its_own() -> None:
    assert set(CODES) == set(subclasses())
    assert len(set(CODES.values())) == len(CODES)
    assert code_of(errors.PyswarmError("?")) is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("kind", subclasses())
def test_a_tunnel_carries_every_error(kind: type[errors.PyswarmError]) -> None:
    error = error_named(name_of(kind("why")), "why")
    assert type(error) is kind
    assert str(error) == "why"


def test_what_is_not_in_the_table_may_succeed_later() -> None:
    assert name_of(OSError("disk")) == "Unavailable"
    assert type(error_named("Exit", "?")) is errors.Unavailable


def test_who_has_it_already_stays_on_this_side() -> None:
    error = errors.Taken("port 80 is used by db", "db", "port 80 is used outside your stacks")
    assert code_of(error) is code_of(errors.Conflict(""))
    assert name_of(error) == "Conflict"
