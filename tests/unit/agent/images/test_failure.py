"""What skopeo's last words mean. The texts are its own, seen from version 1.9."""

import pytest

from agent.images.base import (
    DiskFull,
    ImageError,
    ImageNotFound,
    InvalidImage,
    RegistryUnavailable,
    Unauthorized,
)
from agent.images.endpoint import Endpoint, FleetAccess
from agent.images.failure import combined, failure, silent

HUB = Endpoint(source="docker.io/library/web:1", registry="docker.io", verify_tls=True, own=True)
MIRROR = Endpoint(
    source="mirror:5000/library/web:1", registry="mirror:5000", verify_tls=False, own=False
)
FLEET = Endpoint(
    source="10.0.0.1:2378/docker.io/library/web:1",
    registry="10.0.0.1:2378",
    verify_tls=True,
    own=False,
    fleet=FleetAccess(),
)
SAID = [
    (
        "reading manifest 1 in r:5000/web: manifest unknown: manifest unknown",
        ImageNotFound,
        "no such image: r:5000/web:1 (manifest unknown: manifest unknown)",
    ),
    (
        "reading manifest 1 in r:5000/web: unauthorized: authentication required",
        Unauthorized,
        "not allowed to pull r:5000/web:1 (unauthorized: authentication required)",
    ),
    (
        'pinging container registry r:5000: Get \\"http://r:5000/v2/\\": dial tcp 10.0.0.1:5000:'
        " connect: connection refused",
        RegistryUnavailable,
        "cannot pull r:5000/web:1 from r:5000: dial tcp 10.0.0.1:5000: connect: connection refused",
    ),
    (
        'pinging container registry r:5000: Get \\"https://r:5000/v2/\\": http: server gave HTTP'
        " response to HTTPS client",
        RegistryUnavailable,
        "registry uses plain HTTP (to allow it, start the agent with --insecure-registry): "
        "r:5000/web:1 (http: server gave HTTP response to HTTPS client)",
    ),
]


def as_logged(message: str) -> str:
    return f'time="2026-11-23T23:20:49Z" level=fatal msg="{message}"\n'


@pytest.mark.parametrize(("message", "error", "line"), SAID)
def test_a_failure_becomes_one_readable_line(
    message: str, error: type[ImageError], line: str
) -> None:
    text = as_logged(f"initializing source docker://r:5000/web:1: {message}")
    found = failure(text, "r:5000/web:1", "r:5000")
    assert (type(found), str(found)) == (error, line)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            "writing blob: storing blob to file: write /x: no space left on device",
            DiskFull,
        ),
        (
            "writing blob: adding layer: processing tar file(write /big: no space left on device)",
            DiskFull,
        ),
        (
            "writing blob: happened during read: Digest did not match, expected sha256:a, got b",
            InvalidImage,
        ),
        ("choosing image instance: no image found in manifest list for architecture", InvalidImage),
        ("received unexpected HTTP status: 500 Internal Server Error", RegistryUnavailable),
        ("toomanyrequests: pull rate limit", RegistryUnavailable),
        ("something nobody has seen before", RegistryUnavailable),
    ],
)
def test_the_kind_of_a_failure_decides_what_happens_next(
    message: str, error: type[ImageError]
) -> None:
    assert type(failure(as_logged(message), "web:1", "docker.io")) is error


def test_hosts_that_reach_no_registry_fail_alike() -> None:
    said = 'level=fatal msg="pinging container registry r:5000: dial tcp: lookup r on 1.1.1.1:53:'
    told = {
        str(failure(f'{said} read udp {own}->1.1.1.1:53: i/o timeout"', "r:5000/web:1", "r:5000"))
        for own in ("10.0.0.1:41234", "10.0.0.2:50123", "[fd00::1]:50123")
    }
    assert told == {
        "cannot pull r:5000/web:1 from r:5000: dial tcp: lookup r on 1.1.1.1:53:"
        " read udp 1.1.1.1:53: i/o timeout"
    }


def test_a_failure_without_a_word_still_says_something() -> None:
    assert "without a message" in str(failure("", "web:1", "docker.io"))


def test_a_hostile_registrys_text_stays_one_short_printable_line() -> None:
    line = str(failure("\x1b[31m" + "x\n" * 10_000, "web:1", "docker.io"))
    assert line.isprintable()
    assert len(line) < 1100


def test_the_registrys_own_error_decides_and_mirrors_are_told_too() -> None:
    error = combined(
        [
            (MIRROR, silent("web:1", "mirror:5000", 3)),
            (HUB, ImageNotFound("no such image: web:1")),
        ]
    )
    assert type(error) is ImageNotFound
    assert str(error) == (
        "no such image: web:1; mirror mirror:5000: cannot pull web:1: registry mirror:5000 did not"
        " answer for 3 s"
    )


def test_an_image_is_not_missing_while_the_fleets_registry_is_silent() -> None:
    passed = RegistryUnavailable("the fleet's registry 10.0.0.1:2378 did not answer within 2 s")
    error = combined([(FLEET, passed), (HUB, ImageNotFound("no such image: web:1"))])
    assert type(error) is RegistryUnavailable
    assert str(error) == (
        "no such image: web:1; the fleet's registry 10.0.0.1:2378 did not answer within 2 s"
    )


def test_a_full_disk_is_told_with_what_room_there_is() -> None:
    text = as_logged("writing blob: write /x: no space left on device")
    room = "host3 has 1MB of 2MB free in /images"
    assert str(failure(text, "web:1", "r:5000", room)).endswith(
        f"on device); {room}; to remove unused images: pyswarm system prune --all"
    )
    assert room not in str(failure(as_logged("manifest unknown"), "web:1", "r:5000", room))
