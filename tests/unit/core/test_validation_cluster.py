"""The fleet's settings that `swarm update` changes."""

import pytest

from pyswarm_core.clock import HOUR, SECOND
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.validation import cluster_problems


def test_the_lifetime_of_certificates_has_docker_s_default() -> None:
    assert ClusterSpec().cert_expiry == 2160 * HOUR
    assert not cluster_problems(ClusterSpec())


@pytest.mark.parametrize(
    ("expiry", "is_valid"),
    [
        (5 * SECOND, True),
        (5 * SECOND - 1, False),
        (0, False),
        (8760 * HOUR, True),
        (8760 * HOUR + 1, False),
    ],
)
def test_the_lifetime_of_certificates_is_bounded(expiry: int, is_valid: bool) -> None:
    problems = cluster_problems(ClusterSpec(cert_expiry=expiry))
    assert [(one.field, one.expected) for one in problems] == (
        [] if is_valid else [("--cert-expiry", problems[0].expected)]
    )
    assert is_valid or "5s to 365d" in problems[0].expected
