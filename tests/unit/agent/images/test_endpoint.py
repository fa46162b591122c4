"""Where an image is asked for, and how."""

import pytest

from agent.images.endpoint import endpoints, is_insecure
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument

DIGEST = "sha256:" + "ab" * 32


def sources(text: str, *mirrors: str) -> list[tuple[str, bool, bool]]:
    found = endpoints(parse_reference(text), mirrors, ())
    return [(place.source, place.verify_tls, place.own) for place in found]


def test_mirrors_come_before_docker_io_in_their_order() -> None:
    assert sources("web:1", "http://10.0.0.1:5000", "https://mirror.example/") == [
        ("10.0.0.1:5000/library/web:1", False, False),
        ("mirror.example/library/web:1", True, False),
        ("docker.io/library/web:1", True, True),
    ]


def test_mirrors_serve_no_other_registry() -> None:
    assert sources("host.example/web:1", "http://10.0.0.1:5000") == [
        ("host.example/web:1", True, True)
    ]


def test_a_tag_beside_a_digest_is_not_asked_for() -> None:
    assert sources(f"host.example/web:1@{DIGEST}") == [(f"host.example/web@{DIGEST}", True, True)]


@pytest.mark.parametrize(
    "mirror",
    [
        "10.0.0.1:5000",
        "ftp://host.example",
        "http://",
        "http://host.example/path",
        "http://ann:pw@host.example",
        "http://host.example?x=1",
        "http://host name",
        "http://mirror",
        "",
    ],
)
def test_a_malformed_mirror_is_refused(mirror: str) -> None:
    with pytest.raises(InvalidArgument):
        sources("web", mirror)


@pytest.mark.parametrize(
    ("registry", "insecure", "expected"),
    [
        ("127.0.0.1:5000", (), True),
        ("127.8.0.1", (), True),
        ("[::1]:5000", (), True),
        ("localhost:5000", (), True),
        ("10.0.0.1:5000", (), False),
        ("10.0.0.1:5000", ("10.0.0.0/8",), True),
        ("10.0.0.1:5000", ("10.0.0.1:5000",), True),
        ("10.0.0.1:5000", ("10.0.0.1",), True),
        ("10.0.0.1:5001", ("10.0.0.1:5000",), False),
        ("host.example", ("10.0.0.0/8",), False),
        ("host.example:5000", ("host.example:5000",), True),
        ("docker.io", (), False),
    ],
)
def test_plain_http_is_for_loopback_and_those_named(
    registry: str, insecure: tuple[str, ...], expected: bool
) -> None:
    assert is_insecure(registry, insecure) is expected
