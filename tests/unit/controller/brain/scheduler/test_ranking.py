"""Bulk placement ends where one task after the other would end."""

import random

import numpy as np
import pytest

from controller.brain.scheduler.filters import Demand, capacity
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.ranking import spread
from pyswarm_core.constraints import attribute, parse_preference
from pyswarm_core.indexes.nodes import IntColumn
from pyswarm_core.indexes.tasks import Footprint
from pyswarm_core.objects import Node
from pyswarm_core.states import Availability
from tests.fixtures import build


class _Case:
    """Some nodes, some of whose tasks are of the service."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.nodes = [_node(chance, number) for number in range(1, chance.randint(2, 14))]
        chance.shuffle(self.nodes)
        self.ledger = Ledger(build.state(nodes=self.nodes).node_table)
        length = len(self.ledger.table.number)
        self.on_node = _column(length, [chance.choice([0, 0, 1, 2, 5]) for _ in self.nodes])
        others = _column(length, [chance.randint(0, 3) for _ in self.nodes])
        self.ledger.tasks += self.on_node + others
        failing = _column(length, [chance.random() < 0.2 for _ in self.nodes])
        self.count = chance.randint(1, 40)
        preferences = ["spread=node.labels.zone", "spread=node.labels.rack"]
        self.demand = Demand(
            build.template(
                cpus=chance.choice([0, 0.5, 1]),
                memory=chance.choice([0, build.GIB]),
                constraints=chance.choice([(), ("node.labels.zone!=a",)]),
                preferences=preferences[: chance.choice([0, 0, 1, 2])],
                max_replicas=chance.choice([0, 0, 2, 6]),
            ),
            Footprint(),
            self.on_node,
            chance.choice([None, failing]),
        )
        reservations = self.demand.template.resources.reservations
        self.demand = self.demand._replace(
            footprint=Footprint(reservations.nano_cpus, reservations.memory_bytes)
        )

    def one_by_one(self) -> list[int]:
        """The rows that the rule gives, one task at a time."""
        keys = [parse_preference(text) for text in self.demand.template.placement.preferences]
        room = capacity(self.ledger, self.demand).tolist()
        own, total = self.on_node.tolist(), self.ledger.tasks.tolist()
        eligible = [row for row in range(len(room)) if room[row] > 0]
        chosen: list[int] = []
        for _ in range(self.count):
            rows = eligible
            for key in keys:
                rows = self._lowest_branch(rows, key, room, own)
            rows = [row for row in rows if room[row] > 0]
            if not rows:
                break
            best = min(rows, key=lambda row: self._rank(row, own, total))
            chosen.append(best)
            room[best] -= 1
            own[best] += 1
            total[best] += 1
        return chosen

    def _rank(self, row: int, own: list[int], total: list[int]) -> tuple[int, int, int, int]:
        failing = self.demand.failing
        tier = 0 if failing is None else int(failing[row])
        return tier, own[row], total[row], int(self.ledger.table.number[row])

    def _lowest_branch(
        self, rows: list[int], key: str, room: list[int], own: list[int]
    ) -> list[int]:
        branches: dict[str | None, list[int]] = {}
        for row in rows:
            node = self.ledger.table.nodes[row]
            assert node
            branches.setdefault(attribute(node, key), []).append(row)
        open_branches = {
            value: members
            for value, members in branches.items()
            if any(room[row] > 0 for row in members)
        }
        if not open_branches:
            return []
        value = min(
            open_branches,
            key=lambda v: (sum(own[row] for row in branches[v]), v is not None, v or ""),
        )
        return branches[value]


def _node(chance: random.Random, number: int) -> Node:
    labels = {"zone": chance.choice("abc"), "rack": chance.choice("xy")}
    return build.node(
        f"n{number}",
        cpus=chance.choice([1, 4]),
        memory=chance.choice([0, 2, 8]) * build.GIB,
        availability=chance.choice([Availability.ACTIVE] * 4 + [Availability.PAUSE]),
        labels={name: value for name, value in labels.items() if chance.random() < 0.8},
    )


def _column(length: int, values: list[int]) -> IntColumn:
    column = np.zeros(length, np.int64)
    column[: len(values)] = values
    return column


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_bulk_placement_equals_one_task_after_the_other(first: int) -> None:
    for seed in range(first, first + 100):
        case = _Case(seed)
        room = capacity(case.ledger, case.demand)
        got = spread(case.ledger, case.demand, room, case.count).tolist()
        assert sorted(got) == sorted(case.one_by_one()), f"seed {seed}"


@pytest.mark.parametrize("first", range(0, 200, 100))
def test_without_preferences_even_the_order_is_that_of_one_after_the_other(first: int) -> None:
    for seed in range(first, first + 100):
        case = _Case(seed)
        if not case.demand.template.placement.preferences:
            room = capacity(case.ledger, case.demand)
            got = spread(case.ledger, case.demand, room, case.count).tolist()
            assert got == case.one_by_one(), f"seed {seed}"


def _place(nodes: list[Node], demand: Demand, count: int) -> list[str]:
    ledger = Ledger(build.state(nodes=nodes).node_table)
    rows = spread(ledger, demand, capacity(ledger, demand), count)
    return [ledger.table.ids[row] for row in rows.tolist()]


def _demand(nodes: int, **template: object) -> Demand:
    zeros = np.zeros(max(64, nodes), np.int64)
    return Demand(build.template(**template), Footprint(), zeros)  # type: ignore[arg-type]


def test_tasks_go_to_the_nodes_with_fewest_of_their_service() -> None:
    demand = _demand(3)
    demand.on_node[:3] = [2, 0, 1]
    assert _place(build.nodes(3), demand, 3) == ["n2", "n3", "n2"]


def test_a_node_where_the_service_keeps_failing_comes_last() -> None:
    failing = np.zeros(64, np.int64)
    failing[0] = 1
    demand = _demand(2)._replace(failing=failing)
    assert _place(build.nodes(2), demand, 3) == ["n2", "n2", "n2"]


def test_a_missing_label_is_a_branch_of_its_own() -> None:
    nodes = [
        build.node("n1", labels={"zone": "a"}),
        build.node("n2", labels={"zone": "a"}),
        build.node("n3"),
    ]
    placed = _place(nodes, _demand(3, preferences=["spread=node.labels.zone"]), 4)
    assert sorted(placed) == ["n1", "n2", "n3", "n3"]


def test_what_a_full_zone_cannot_take_overflows_to_the_others() -> None:
    nodes = [build.node("n1", labels={"zone": "a"}), build.node("n2", labels={"zone": "b"})]
    demand = _demand(2, preferences=["node.labels.zone"], max_replicas=3)
    demand.on_node[:2] = [2, 0]
    assert sorted(_place(nodes, demand, 9)) == ["n1", "n2", "n2", "n2"]


def test_no_more_is_placed_than_fits() -> None:
    demand = _demand(2, cpus=1.5)._replace(footprint=Footprint(nano_cpus=1_500_000_000))
    assert _place(build.nodes(2), demand, 10) == ["n1", "n2", "n1", "n2"]
