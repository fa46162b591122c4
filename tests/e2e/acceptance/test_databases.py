"""PostgreSQL and Redis lose no acknowledged write, whatever happens to what runs below them.

Writers add numbers through the published ports from the first test to the last. After each fault
all numbers that were acknowledged are there, without a gap; two servers never have one volume.
Both databases are updated, moved, backed up and restored at the same time.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from tests.e2e.acceptance import databases
from tests.e2e.acceptance.databases import POSTGRES, REDIS, Kind, Servers, Writer
from tests.e2e.acceptance.fleet import Fleet
from tests.fixtures.debian import IMAGES_TIMEOUT_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]

NIGHTLY = (pytest.mark.nightly, pytest.mark.timeout(1800))
ROUNDS = [1, pytest.param(10, marks=NIGHTLY)]


T = TypeVar("T")


class Served(NamedTuple):
    """A database of the fleet."""

    kind: Kind
    port: int
    writer: Writer
    servers: Servers

    @property
    def service(self) -> str:
        """Its name."""
        return self.kind.name


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its hosts lose their power."""
    databases.push(own_fleet)
    return own_fleet


@pytest.fixture(scope="module")
def served(fleet: Fleet) -> Iterator[list[Served]]:
    """Both, off the first host, which runs the controller; each has a writer."""
    ports = {POSTGRES: 15432, REDIS: 16379}

    def create(kind: Kind) -> None:
        volume = f"source={kind.name}-data,target={kind.data}"
        where = ("--constraint", "node.hostname!=host1", "--restart-delay", "0s")
        named = ("--name", kind.name, "--mount", volume, "-p", f"{ports[kind]}:{kind.port}")
        fleet("service", "create", *named, *where, kind.image)

    each(ports, create)
    with ExitStack() as stack:
        found = []
        for kind, port in ports.items():
            servers = stack.enter_context(Servers(fleet, kind.program))
            writer = stack.enter_context(databases.writing(fleet, kind, port))
            found.append(Served(kind, port, writer, servers))
        kept(fleet, found)
        yield found


def each(several: Iterable[T], work: Callable[[T], None]) -> None:
    """Do it for all of them at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(work, several))


def kept(fleet: Fleet, served: list[Served]) -> None:
    """Writes go on, and everything that was acknowledged is there."""
    for one in served:
        databases.wait_for_more(fleet, one.writer)
        databases.require_all(fleet, one.kind, one.port, one.writer)
        assert one.servers.most == 1


def homes(fleet: Fleet, served: list[Served]) -> list[str]:
    """The hosts that have their volumes."""
    names = {f"{one.kind.name}-data" for one in served}
    rows = [row for row in fleet.rows("volume", "ls") if row["Name"] in names]
    assert len(rows) == len(names)
    return sorted({row["Node"] for row in rows})


def first_processes(fleet: Fleet, served: list[Served]) -> list[int]:
    return [fleet.pid(task["ID"]) for one in served for task in fleet.running(one.service)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_agent_interrupts_no_connection(
    fleet: Fleet, served: list[Served], rounds: int
) -> None:
    before = first_processes(fleet, served)
    lost = [one.writer.lost for one in served]
    for _ in range(rounds):
        for host in homes(fleet, served):
            fleet.kill(host)
            kept(fleet, served)
            fleet.until(lambda h=host: fleet.daemon(h), "the agent is back")  # type: ignore[misc]
    assert [one.writer.lost for one in served] == lost
    assert first_processes(fleet, served) == before


@pytest.mark.parametrize("rounds", ROUNDS)
def test_an_update_starts_the_next_server_on_the_same_files(
    fleet: Fleet, served: list[Served], rounds: int
) -> None:
    for number in range(rounds):
        before = first_processes(fleet, served)

        def update(one: Served, number: int = number) -> None:
            image = (one.kind.newer, one.kind.image)[number % 2]
            fleet("service", "update", "--image", image, "--env-add", f"N={number}", one.service)

        each(served, update)
        kept(fleet, served)
        assert not set(before) & set(first_processes(fleet, served))


@pytest.mark.parametrize("rounds", ROUNDS)
def test_servers_recover_from_a_power_loss_of_their_host(
    fleet: Fleet, served: list[Served], rounds: int
) -> None:
    for _ in range(rounds):
        before = homes(fleet, served)
        for host in before:
            fleet("playground", "kill", "--name", fleet.name, host)
            fleet.until(
                lambda h=host: (
                    {"Hostname": h, "Status": "Down"}.items()  # type: ignore[misc]
                    <= next(row for row in fleet.rows("node", "ls") if row["Hostname"] == h).items()
                ),
                "it is down",
            )
            fleet("playground", "heal", "--name", fleet.name, host)
        kept(fleet, served)
        assert homes(fleet, served) == before


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_new_term_of_leadership_changes_nothing(
    fleet: Fleet, served: list[Served], rounds: int
) -> None:
    before = first_processes(fleet, served)
    lost = [one.writer.lost for one in served]
    for _ in range(rounds):
        old = fleet.daemon("host1", "controller")
        fleet.kill("host1", "controller")
        fleet.until(lambda o=old: fleet.daemon("host1", "controller") not in (0, o), "it is back")  # type: ignore[misc]
        fleet.until(lambda: fleet.run("service", "ls").code == 0, "it leads")
        fleet.until(
            lambda: {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"},
            "all nodes have returned to it",
        )
        kept(fleet, served)
    assert [one.writer.lost for one in served] == lost
    assert first_processes(fleet, served) == before


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_moved_volume_takes_everything_with_it(
    fleet: Fleet, served: list[Served], rounds: int
) -> None:
    def move(one: Served) -> None:
        volume = f"{one.kind.name}-data"
        (source,) = homes(fleet, [one])
        (other,) = {"host2", "host3"} - {source}
        left = place_of(fleet, volume, source)
        fleet("volume", "move", volume, "--to", other)
        assert homes(fleet, [one]) == [other]
        kept(fleet, [one])
        assert {task["Node"] for task in fleet.running(one.service)} == {other}
        fleet.until(lambda: not left.exists(), "the old copy is deleted")

    for _ in range(rounds):
        each(served, move)


KILLED = ("controller", "source", "destination")


@pytest.mark.parametrize("killed", KILLED)
def test_a_move_goes_on_when_its_leader_or_an_agent_is_killed_within_it(
    fleet: Fleet, served: list[Served], killed: str
) -> None:
    one = next(one for one in served if one.kind is REDIS)
    volume = f"{one.kind.name}-data"
    (source,) = homes(fleet, [one])
    (other,) = {"host2", "host3"} - {source}
    fleet("exec", one.service, "sh", "-c", f"head -c {FILLER} /dev/urandom > /data/filler")
    before = checksum(fleet, one)
    copy = place_of(fleet, volume, source)
    with slow(fleet, source):
        fleet("volume", "move", "--detach", volume, "--to", other)
        fleet.until(lambda: 0 < copied(fleet, volume) < FILLER, "a part is copied")
        name = "controller" if killed == "controller" else "agent"
        host = {"controller": "host1", "source": source, "destination": other}[killed]
        old = fleet.daemon(host, name)
        fleet.kill(host, name)
        assert (copy / "filler").stat().st_size == FILLER, "the source is whole"
        fleet.until(lambda: fleet.daemon(host, name) not in (0, old), "it is back")
    fleet.until(lambda: fleet.run("service", "ls").code == 0, "a controller leads")
    fleet("volume", "move", volume, "--to", other)
    assert homes(fleet, [one]) == [other]
    kept(fleet, [one])
    assert checksum(fleet, one) == before
    assert {task["Node"] for task in fleet.running(one.service)} == {other}
    fleet.until(lambda: not copy.exists(), "the old copy is deleted")
    there = place_of(fleet, volume, other)
    assert sorted(path.name for path in there.parent.iterdir()) == [there.name]


FILLER = 16_000_000


@contextmanager
def slow(fleet: Fleet, host: str) -> Iterator[None]:
    """The host sends 2 MB a second in the block."""
    device = ("dev", "eth0", "root")
    limits = ("tbf", "rate", "16mbit", "burst", "64kb", "latency", "100ms")
    assert fleet.on(host, "tc", "qdisc", "add", *device, *limits).code == 0
    try:
        yield
    finally:
        fleet.on(host, "tc", "qdisc", "del", *device)


def copied(fleet: Fleet, volume: str) -> int:
    """The bytes that the destination of a move has."""
    status = json.loads(fleet("volume", "inspect", volume))[0].get("Status") or {}
    return int(status.get("Copied", 0))


def place_of(fleet: Fleet, volume: str, host: str) -> Path:
    """Where the volume's files are on its host."""
    path = json.loads(fleet("volume", "inspect", volume))[0]["Mountpoint"]
    return Path(f"{fleet.state_dir}/{host}/{path}")


def checksum(fleet: Fleet, one: Served) -> str:
    """Of the filler, in its container."""
    return fleet("exec", one.service, "sha256sum", "/data/filler")


def test_a_backup_has_what_was_acknowledged_before_it_and_restores_exactly_that(
    fleet: Fleet, served: list[Served], tmp_path: Path
) -> None:
    def back_up_and_restore(one: Served) -> None:
        volume, archive = f"{one.kind.name}-data", tmp_path / f"{one.kind.name}.tar.gz"
        before = one.writer.acknowledged
        fleet("volume", "backup", "--stop", volume, str(archive))
        after = one.writer.acknowledged + 1
        kept(fleet, [one])
        one.writer.pause()
        fleet("volume", "restore", "--stop", volume, str(archive))
        numbers = databases.stored(fleet, one.kind, one.port)
        assert numbers == set(range(1, len(numbers) + 1))
        assert before <= len(numbers) <= after
        one.writer.resume(len(numbers))
        kept(fleet, [one])

    each(served, back_up_and_restore)


def test_the_databases_own_checks_pass(fleet: Fleet, served: list[Served]) -> None:
    def examine(one: Served) -> None:
        one.writer.stop()
        databases.require_all(fleet, one.kind, one.port, one.writer)
        databases.require_sound(fleet, one.kind, one.service)
        assert one.servers.most == 1

    each(served, examine)
