"""The columns of constraints say the same as each constraint says of each node."""

import sys
from random import Random
from types import FrameType

import pytest
from msgspec.structs import replace

from pyswarm_core.constraints import parse
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.constraints import CACHED_COLUMNS
from pyswarm_core.indexes.nodes import NodeTable
from pyswarm_core.objects import Node, Platform
from tests.fixtures import build

VALUES = ("a", "A", "b", "straße", "STRASSE", "", " a")
ADDRESSES = (
    "192.0.2.17", "192.0.2.17:4000", "192.0.2.200", "198.51.100.1", "2001:db8::1", "2001:DB8:1::1",
    "fe80::1%eth0", "::ffff:192.0.2.17", "::", "0.0.0.0", "here", "",
)  # fmt: skip
CONSTRAINTS = [
    f"{key}{operator}{value}"
    for operator in ("==", "!=", " != ")
    for key, values in {
        "node.labels.x": ("a", "A", "b", "strasse", "other"),
        "node.labels.X": ("a",),
        "node.labels.nobody": ("a",),
        "engine.labels.x": ("a", "b", "Straße"),
        "node.id": ("n1", "N2", "n99"),
        "node.hostname": ("h1", "H2", "nobody"),
        "node.role": ("worker", "Manager", "other"),
        "node.platform.os": ("linux", "LINUX", "windows"),
        "node.platform.arch": ("x86_64", "amd64", "AMD64", "arm64", "aarch64", "other"),
        "node.ip": (
            "192.0.2.0/24", "192.0.2.17", "192.0.2.17/25", "0.0.0.0/0", "2001:db8::/32", "::/0",
            "2001:db8::/96", "fe80::/10", "::ffff:192.0.2.17",
        ),
    }.items()
    for value in values
]  # fmt: skip
MALFORMED = ["", "node.labels.x", "node.zone==a", "node.ip==here", "node.labels.x=="]


def some_node(rand: Random, name: str) -> Node:
    host = build.node(
        name,
        labels={key: rand.choice(VALUES) for key in ("x", "X", "y") if rand.random() < 0.6},
        engine_labels={key: rand.choice(VALUES) for key in ("x", "y") if rand.random() < 0.6},
        addr=rand.choice(ADDRESSES),
        platform=Platform(
            architecture=rand.choice(("x86_64", "amd64", "AARCH64", "riscv64", "")),
            os=rand.choice(("linux", "Windows", "")),
        ),
        role=rand.choice(("worker", "manager")),
    )
    hostname = rand.choice(("h1", "H1", "h2", ""))
    return replace(host, description=replace(host.description, hostname=hostname))


def holds(constraint: str, node: Node | None) -> bool:
    try:
        return node is not None and parse(constraint).holds(node)
    except InvalidArgument:
        return False


@pytest.mark.parametrize("seed", range(8))
def test_prop_a_column_says_of_each_node_what_its_constraint_says(seed: int) -> None:
    rand, table = Random(seed), NodeTable()
    for _ in range(120):
        name = f"n{rand.randrange(90)}"
        if name in table.rows and rand.random() < 0.3:
            table.remove(NodeId(name))
        else:
            table.put(some_node(rand, name))
        for constraint in rand.sample([*CONSTRAINTS, *MALFORMED], 20):
            column = table.satisfying(constraint).tolist()
            unused = [None] * (len(column) - len(table.nodes))
            assert column == [holds(constraint, node) for node in [*table.nodes, *unused]]


def calls_made(table: NodeTable, constraints: list[str]) -> int:
    """Calls, of functions in Python and in C, that the columns take."""
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for constraint in constraints:
            table.satisfying(constraint)
    finally:
        sys.setprofile(None)
    return calls


def test_a_new_constraint_is_not_compared_with_the_nodes_one_by_one() -> None:
    rand, few, many = Random(1), NodeTable(), NodeTable()
    for table, length in ((few, 10), (many, 1_000)):
        for number in range(length):
            table.put(some_node(rand, f"n{number}"))
    calls_made(few, CONSTRAINTS)  # parses them
    few.put(some_node(rand, "n0"))
    for table in (few, many):
        table._constraints.resize(len(table.number))
    assert calls_made(few, CONSTRAINTS) == calls_made(many, CONSTRAINTS)


def test_a_change_of_a_node_touches_the_columns_that_ask_for_it() -> None:
    table, host = NodeTable(), build.node("n1", labels={"x": "a"})
    table.put(host)
    for number in range(200):
        table.satisfying(f"node.labels.l{number}!=x")
    asked = table.satisfying("node.labels.x==b")
    changed = replace(host, spec=replace(host.spec, labels={"x": "b"}))
    assert not asked[0]
    table.put(changed)
    assert asked[0]
    assert table.satisfying("node.labels.x==b") is asked


def test_only_the_oldest_column_goes_when_there_are_too_many() -> None:
    table = NodeTable()
    table.put(build.node("n1"))
    constraints = [f"node.labels.l{number}!=x" for number in range(CACHED_COLUMNS + 1)]
    columns = [table.satisfying(one) for one in constraints]
    assert all(table.satisfying(one) is columns[at] for at, one in enumerate(constraints) if at)
    assert len(table._constraints._columns) == CACHED_COLUMNS
    assert table.satisfying(constraints[0]) is not columns[0]


def test_values_that_no_node_has_any_more_are_forgotten() -> None:
    table = NodeTable()
    for number in range(100):
        table.put(build.node("n1", labels={f"l{number}": str(number)}))
        table.satisfying(f"node.labels.l{number}==x")
    table.remove(NodeId("n1"))
    assert not table._constraints._holders
    for number in range(100):
        column = table.satisfying(f"node.labels.l{number}!=x")
        assert not column.any()
