"""Placement constraints: what they mean and what is refused."""

import pytest

from pyswarm_core.constraints import check, parse, parse_preference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import Platform
from tests.fixtures.build import node

HOST = node(
    "n1",
    labels={"zone": "A", "disk.kind": "ssd"},
    addr="192.0.2.17",
    platform=Platform(architecture="x86_64"),
    engine_labels={"gpu": "yes"},
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node.labels.zone==a", True),
        ("node.labels.zone == A", True),
        ("node.labels.zone!=a", False),
        ("node.labels.disk.kind==ssd", True),
        ("node.labels.missing==a", False),
        ("node.labels.missing!=a", True),
        ("engine.labels.gpu==yes", True),
        ("node.id==n1", True),
        ("node.hostname!=n2", True),
        ("node.role==manager", False),
        ("node.platform.os==linux", True),
        ("node.platform.arch==amd64", True),
        ("node.platform.arch==x86_64", True),
        ("node.ip==192.0.2.0/24", True),
        ("node.ip==192.0.2.17", True),
        ("node.ip!=198.51.100.0/24", True),
        ("node.ip==198.51.100.0/24", False),
    ],
)
def test_constraint_holds(text: str, holds: bool) -> None:
    assert parse(text).holds(HOST) is holds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("node.labels.zone", "KEY==VALUE"),
        ("node.labels.zone=a", "KEY==VALUE"),
        ("node.labels.zone==", "a value after =="),
        ("node.labels.==a", "expected a key of node.id"),
        ("node.zone==a", "node.labels.NAME"),
        ("node.ip==here", "CIDR"),
    ],
)
def test_malformed_constraint_says_what_would_be_valid(text: str, hint: str) -> None:
    with pytest.raises(InvalidArgument, match=hint):
        parse(text)


def test_address_with_a_port_is_matched_by_its_host() -> None:
    assert parse("node.ip==192.0.2.0/24").holds(node("n1", addr="192.0.2.1:7946"))


def test_preference_is_a_label_with_or_without_its_strategy() -> None:
    assert parse_preference("spread=node.labels.zone") == "node.labels.zone"
    assert parse_preference("node.labels.zone") == "node.labels.zone"
    with pytest.raises(InvalidArgument, match="spread="):
        parse_preference("binpack=node.labels.zone")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("node.role==manger", "expected one of worker, manager; did you mean manager"),
        ("node.role!=leader", "expected one of worker, manager"),
        ("node.platform.os==linus", "did you mean linux"),
        ("node.platform.arch==x86", "expected one of amd64, arm64"),
        ("node.platform.arch==amd46", "did you mean amd64"),
    ],
)
def test_a_value_outside_a_closed_vocabulary_is_refused_with_what_is_meant(
    text: str, hint: str
) -> None:
    with pytest.raises(InvalidArgument, match=hint):
        check(text)
    assert parse(text).value, "what is stored already is still understood"


@pytest.mark.parametrize(
    "text",
    [
        "node.role==Manager", "node.role!=worker", "node.platform.os != windows",
        "node.platform.arch==x86_64", "node.platform.arch==aarch64", "node.labels.role==manger",
        "node.hostname==manger",
    ],
)  # fmt: skip
def test_a_value_inside_it_or_of_an_open_key_is_not(text: str) -> None:
    assert check(text) == parse(text)
