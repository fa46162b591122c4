"""Errors of copies come through the exit of their stream."""

import pytest

from pyswarm_core import errors
from pyswarm_core.aio.archives.entries import Refused
from pyswarm_core.streams.failures import error_in, exit_of
from pyswarm_core.streams.frames import Exit


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.NotFound("a"), errors.NotFound),
        (Refused("a"), errors.InvalidArgument),
        (errors.Conflict("a"), errors.Conflict),
        (errors.Exhausted("a"), errors.Exhausted),
        (errors.Unavailable("a"), errors.Unavailable),
        (errors.PermissionDenied("a"), errors.Unavailable),
    ],
)
def test_an_error_keeps_its_class_and_text(
    error: errors.PyswarmError, kind: type[errors.PyswarmError]
) -> None:
    found = error_in(exit_of(error))
    assert (type(found), str(found)) == (kind, "a")


def test_a_complete_copy_has_no_error() -> None:
    assert error_in(Exit()) is None
    assert isinstance(error_in(Exit(99, "later")), errors.Unavailable)
