"""Image references: accepted, normalised and printed as Docker does; the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.docker.reference import (
    INPUT_LENGTH_MAX,
    NAME_LENGTH_MAX,
    Reference,
    parse_reference,
)
from pyswarm_core.errors import InvalidArgument

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("web", "docker.io/library/web:latest"),
        ("web:1", "docker.io/library/web:1"),
        ("team/web:1", "docker.io/team/web:1"),
        ("docker.io/web", "docker.io/library/web:latest"),
        ("index.docker.io/team/web", "docker.io/team/web:latest"),
        ("localhost/web:1", "localhost/web:1"),
        ("registry:5000/web", "registry:5000/web:latest"),
        ("10.0.0.1:5000/a/b/c:v1.2-rc_3", "10.0.0.1:5000/a/b/c:v1.2-rc_3"),
        ("[fd00::1]:5000/web:1", "[fd00::1]:5000/web:1"),
        ("Registry/web:1", "Registry/web:1"),
        (f"web@{DIGEST}", f"docker.io/library/web@{DIGEST}"),
        (f"web:1@{DIGEST}", f"docker.io/library/web:1@{DIGEST}"),
        (f"web@sha512:{HEX}{HEX}", f"docker.io/library/web@sha512:{HEX}{HEX}"),
        ("a__b/c-d---e/f.g", "docker.io/a__b/c-d---e/f.g:latest"),
        ("web:" + "t" * 128, "docker.io/library/web:" + "t" * 128),
    ],
)
def test_a_reference_is_normalised_as_docker_does(text: str, full: str) -> None:
    assert str(parse_reference(text)) == full


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/web:1", "web:1"),
        ("docker.io/team/web", "team/web:latest"),
        ("registry:5000/web:1", "registry:5000/web:1"),
        (f"web:1@{DIGEST}", f"web:1@{DIGEST}"),
        ("docker.io/my.team/web:1", "docker.io/my.team/web:1"),
        ("docker.io/library/my.team/web:1", "docker.io/library/my.team/web:1"),
        (f"docker.io/library/sha256:{HEX}", f"docker.io/library/sha256:{HEX}"),
    ],
)
def test_the_familiar_form_is_the_shortest(text: str, familiar: str) -> None:
    assert parse_reference(text).familiar == familiar


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"REGISTRY/"),
        (" web", "repository"),
        ("web ", "repository"),
        ("web\n", "repository"),
        ("web:1\n", "tag"),
        ("Web", "lower case"),
        ("team/Web:1", "lower case"),
        ("web:", "tag"),
        ("web:.1", "tag"),
        ("web:-1", "tag"),
        ("web:a/b", "registry"),
        ("web:" + "t" * 129, "tag"),
        ("web@", "digest"),
        ("web@sha256:abc", "digest"),
        (f"web@sha256:{HEX.upper()}", "digest"),
        (f"web@md5:{HEX}", "digest"),
        (f"web@{DIGEST}@{DIGEST}", "digest"),
        (HEX, "image id"),
        (DIGEST, "image id"),
        ("/web", "repository"),
        ("web/", "repository"),
        ("a//b", "repository"),
        ("registry:5000/", "repository"),
        ("registry:0/web", "registry"),
        ("registry:65536/web", "registry"),
        ("registry:5000x/web", "registry"),
        ("-host.example/web", "registry"),
        ("host..example/web", "registry"),
        ("[::1/web", "registry"),
        ("../../etc/passwd", "registry"),
        ("https://host.example/web", "registry"),
        ("docker://web", "registry"),
        ("--help", "repository"),
        ("-v", "repository"),
        ("web;reboot", "repository"),
        ("$(reboot)", "repository"),
        ("web`id`", "repository"),
        ("we\x00b", "repository"),
        ("wéb", "repository"),
        ("web:\uff11", "tag"),
        ("a___b", "repository"),
        ("a..b", "repository"),
        ("host.example/" + "a" * 250, "255"),
        ("a" * (INPUT_LENGTH_MAX + 1), "characters"),
    ],
)
def test_a_malformed_or_hostile_reference_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        parse_reference(text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 300


def test_the_longest_name_is_still_accepted() -> None:
    repository = "a" * (NAME_LENGTH_MAX - len("host.example/"))
    assert parse_reference(f"host.example/{repository}").repository == repository


def test_a_digest_decides_over_the_tag_beside_it() -> None:
    assert parse_reference(f"web:1@{DIGEST}").canonical == f"docker.io/library/web@{DIGEST}"
    assert parse_reference("web:1").canonical == "docker.io/library/web:1"


def test_pinning_keeps_the_tag_for_people() -> None:
    assert str(parse_reference("web:1").pinned(DIGEST)) == f"docker.io/library/web:1@{DIGEST}"


def test_pinning_to_something_else_than_a_digest_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="digest"):
        parse_reference("web:1").pinned("latest")


references = st.builds(
    Reference,
    st.sampled_from(["docker.io", "localhost", "registry:5000", "[::1]:80", "host.example"]),
    st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4})?/[a-z]{1,8}", fullmatch=True).filter(
        lambda repository: not repository.startswith("localhost/")
    ),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.sampled_from(["", DIGEST]),
)


@given(references)
def test_prop_printing_and_parsing_are_inverse(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference


@given(st.text(max_size=60))
def test_prop_any_text_is_a_reference_or_a_clear_refusal(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidArgument:
        return
    assert str(reference).isascii()
    assert not set(str(reference)) & set(" \t\r\n\"'`$;&|<>\\*?(){}!#%")
    assert not str(reference).startswith(("-", "/", "."))
    assert parse_reference(str(reference)) == reference
