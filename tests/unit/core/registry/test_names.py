"""Names of images and the repositories of the fleet's registry, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.registry.names import name_of, repository_of

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
IPV6 = st.ip_addresses(v=6).map(lambda address: f"[{address}]")
PORT = st.integers(1, 65_535).map(lambda port: f":{port}")
PATH = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,2}(/[a-z0-9]+){0,2}", fullmatch=True)
NAMES = st.one_of(
    st.builds("{}{}/{}:1".format, st.one_of(HOST, IPV6), PORT, PATH),
    st.builds("{}/{}:1".format, st.one_of(HOST, IPV6), PATH),
)


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("web", "docker.io/library/web"),
        ("team/web:2", "docker.io/team/web"),
        ("registry:5000/web", "registry__5000/web"),
        ("ghcr.io/a/b/c", "ghcr.io/a/b/c"),
        ("localhost/web", "localhost/web"),
        ("10.0.0.1:5000/web", "10.0.0.1__5000/web"),
        (
            "[fd00::1]:5000/web",
            "ip6-fd00-0000-0000-0000-0000-0000-0000-0001__5000/web",
        ),
        ("Registry/web", "registry__0/web"),
    ],
)
def test_the_repository_of_a_name(text: str, repository: str) -> None:
    reference = parse_reference(text)
    assert repository_of(reference) == repository
    assert name_of(repository).lower() == reference.name.lower()


@given(NAMES)
def test_names_and_repositories_are_the_same_things(text: str) -> None:
    reference = parse_reference(text)
    assert name_of(repository_of(reference)).lower() == reference.name.lower()


@given(NAMES, NAMES)
def test_two_names_have_two_repositories(one: str, other: str) -> None:
    first, second = parse_reference(one), parse_reference(other)
    same = first.name.lower() == second.name.lower()
    assert (repository_of(first) == repository_of(second)) == same


@given(st.text("abz019.-_/:[]A", max_size=24))
def test_a_repository_is_read_or_refused(repository: str) -> None:
    try:
        name = name_of(repository)
    except InvalidArgument:
        return
    assert repository_of(parse_reference(f"{name}:1")) == repository


def test_a_name_that_is_too_long_is_refused() -> None:
    reference = Reference("registry:5000", "a" * 241, "1")
    assert len(reference.name) == 255
    with pytest.raises(InvalidArgument, match="at most 254 characters"):
        repository_of(reference)
