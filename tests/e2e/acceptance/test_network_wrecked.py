"""Routes, FDB entries and rules are deleted, of hosts and of a task: felt, mended, no further.

All is wrecked before anything is waited for, each kind on another host, so that the agents' next
look mends it all at once.
"""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.web import ask, ask_from, ask_from_outside

HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
PORT = 18090
SERVICE = "wrecked"
NEAR = "near"


class Wreck(msgspec.Struct, frozen=True):
    """Host to task of a service everywhere, and of another whose task on host3 wrecks itself."""

    tasks: dict[str, str]
    near: dict[str, str]
    others: tuple[bool, ...]
    """What the other tasks' requests came to while one had no rules."""


def felt(fleet: Fleet, harm: Callable[[], object], works: Callable[[], object], what: str) -> None:
    """Harm until it shows: an agent may look, and mend, between the two."""

    def attempt() -> bool:
        harm()
        return not works()

    fleet.until(attempt, f"it is felt that {what}")


@pytest.fixture(scope="module")
def wreck(fleet: Fleet) -> Iterator[Wreck]:
    """The fleet after all of it."""
    everywhere = ("--mode", "global", "--network", "app")
    fleet("service", "create", "--name", SERVICE, *everywhere, "-p", f"{PORT}:80", IMAGE)
    fleet("service", "create", "--name", NEAR, *everywhere, "--cap-add", "NET_ADMIN", IMAGE)
    tasks = {task["Node"]: task["ID"] for task in fleet.running(SERVICE)}
    near = {task["Node"]: task["ID"] for task in fleet.running(NEAR)}

    clients = (*tasks.values(), near["host1"], near["host2"])

    def asked() -> tuple[bool, ...]:
        return tuple(ask(fleet, c, name) is not None for c in clients for name in (SERVICE, NEAR))

    fleet.until(lambda: all(asked()), "all reach both")
    felt(
        fleet,
        lambda: fleet.inside(near["host3"], "nft", "flush", "ruleset"),
        lambda: ask(fleet, near["host3"], SERVICE),
        "a task has no rules",
    )
    others = asked()
    felt(
        fleet,
        lambda: delete_routes(fleet, "host2"),
        lambda: "onlink" in fleet.on("host2", "ip", "-o", "route", "show").out,
        "routes are gone",
    )
    felt(
        fleet,
        lambda: delete_entries(fleet, "host1"),
        lambda: " dst " in fleet.on("host1", "bridge", "fdb", "show").out,
        "FDB entries are gone",
    )
    felt(
        fleet,
        lambda: delete_tables(fleet, "host1"),
        lambda: ask_from_outside(fleet, HOSTS["host1"], PORT),
        "rules are gone",
    )
    yield Wreck(tasks, near, others)
    fleet("service", "rm", SERVICE, NEAR)


def delete_routes(fleet: Fleet, host: str) -> None:
    """All that lead to other hosts' tasks."""
    for line in fleet.on(host, "ip", "-o", "route", "show").out.splitlines():
        if "onlink" in line:
            fleet.on(host, "ip", "route", "del", line.split()[0])


def delete_entries(fleet: Fleet, host: str) -> None:
    """All that say behind which host a MAC lives."""
    for line in fleet.on(host, "bridge", "fdb", "show").out.splitlines():
        if " dst " in line:
            mac, _, device, _, vtep, *_ = line.split()
            fleet.on(host, "bridge", "fdb", "del", mac, "dev", device, "dst", vtep)


def delete_tables(fleet: Fleet, host: str) -> None:
    """All of the agent's in the host's namespace."""
    for line in fleet.on(host, "nft", "list", "tables").out.splitlines():
        if "pyswarm" in line:
            fleet.on(host, "nft", "delete", *line.split())


def test_a_task_that_wrecks_its_own_rules_harms_only_itself(fleet: Fleet, wreck: Wreck) -> None:
    assert wreck.others == (True,) * 10
    fleet.until(lambda: ask(fleet, wreck.near["host3"], SERVICE), "its own are mended")


def reaches_the_others(fleet: Fleet, wreck: Wreck, host: str) -> None:
    """Wait until the host's task reaches the other hosts' tasks by their addresses."""
    for other in HOSTS.keys() - {host}:
        fleet.until(
            partial(ask_from, fleet, wreck.tasks[host], fleet.address(wreck.tasks[other])),
            f"{host} reaches {other}",
        )


def test_deleted_routes_are_mended(fleet: Fleet, wreck: Wreck) -> None:
    fleet.until(
        lambda: fleet.on("host2", "ip", "-o", "route", "show").out.count("onlink") >= 4,
        "host2 leads to both others on both networks",
    )
    reaches_the_others(fleet, wreck, "host2")


def test_deleted_fdb_entries_are_mended(fleet: Fleet, wreck: Wreck) -> None:
    fleet.until(
        lambda: fleet.on("host1", "bridge", "fdb", "show").out.count(" dst ") >= 4,
        "host1 knows both others' tunnels on both networks",
    )
    reaches_the_others(fleet, wreck, "host1")


def test_deleted_tables_are_mended(fleet: Fleet, wreck: Wreck) -> None:
    assert set(wreck.tasks) == set(HOSTS)

    def leads_to_all() -> bool:
        found = [ask_from_outside(fleet, HOSTS["host1"], PORT) for _ in range(24)]
        return all(found) and len({answer.hostname for answer in found if answer}) == 3

    fleet.until(leads_to_all, "host1 leads to all three again")
