"""Databases on a fleet: their images, and writers that know what a database has acknowledged."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cli.client import Client
from cli.registry.opening import opened
from pyswarm_core.docker.reference import parse_reference
from tests.e2e.acceptance.fleet import Fleet
from tests.fixtures.databases.clients import Database, Postgres, Redis
from tests.fixtures.databases.images import images
from tests.fixtures.netns import inside

ENTRANCE = "10.99.0.1"
"""The host whose published ports writers use; it keeps its power."""


class Kind(NamedTuple):
    """How one database runs as a service."""

    name: str
    image: str
    newer: str
    data: str
    """Where its volume is mounted."""
    port: int
    connect: Callable[[str, int], Database]
    program: str
    """What its server's process is called."""
    check: tuple[str, ...]
    """Its own examination of its files: exits with 0 if they are sound."""


POSTGRES = Kind(
    name="postgres",
    image="postgres:15",
    newer="postgres:15-next",
    data="/var/lib/postgresql/data",
    port=5432,
    connect=Postgres,
    program="postgres",
    check=("pg_amcheck", "--install-missing", "--heapallindexed", "--all"),
)
REDIS = Kind(
    name="redis",
    image="redis:7",
    newer="redis:7-next",
    data="/data",
    port=6379,
    connect=Redis,
    program="redis-server",
    check=("redis-check-aof", "/data/appendonlydir/appendonly.aof.manifest"),
)
KINDS = (POSTGRES, REDIS)


def push(fleet: Fleet, *names: str) -> None:
    """Put the images of these names, else those of both databases, into the fleet's registry."""
    copy = ("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false")
    wanted = names or tuple(one for kind in KINDS for one in (kind.image, kind.newer))
    folders = images(*wanted)
    with (
        Client(f"unix://{fleet.run_dir}/pyswarm.sock") as client,
        opened(client, write=True) as registry,
    ):
        login = ("--dest-authfile", str(registry.authfile))
        for name, folder in folders.items():
            where = f"docker://{registry.reference(parse_reference(name))}"
            done = fleet.on_machine((*copy, *login, f"dir:{folder}", where))
            assert done.code == 0, done.err


def connected(fleet: Fleet, kind: Kind, port: int) -> Database:
    """A connection through the published port. Raises OSError."""
    return inside(fleet.netns("lan"), lambda: kind.connect(ENTRANCE, port))


class Writer:
    """Adds one number after the other, from 1, until `stop`; each until it is acknowledged."""

    def __init__(self, fleet: Fleet, kind: Kind, port: int) -> None:
        self.acknowledged = 0
        """All numbers up to this one have been acknowledged, and at most the next one was sent."""
        self.lost = 0
        """How often a connection ended."""
        self._connect: Callable[[], Database] = partial(connected, fleet, kind, port)
        self._ended = threading.Event()
        self._paused = threading.Event()
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._work)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current number."""
        self._ended.set()
        self._thread.join()

    def pause(self) -> None:
        """Return once nothing is sent any more, until `resume`."""
        self._paused.set()
        with self._sending:
            pass

    def resume(self, acknowledged: int) -> None:
        """Go on: the database has the numbers up to this one."""
        self.acknowledged = acknowledged
        self._paused.clear()

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                database = self._connect()
            except OSError:
                self._ended.wait(0.1)
                continue
            try:
                database.prepare()
                self._add(database)
            except OSError:
                self.lost += 1
            finally:
                database.close()

    def _add(self, database: Database) -> None:
        while not self._ended.wait(0.005):
            with self._sending:
                if not self._paused.is_set():
                    database.add(self.acknowledged + 1)
                    self.acknowledged += 1


@contextmanager
def writing(fleet: Fleet, kind: Kind, port: int) -> Iterator[Writer]:
    """Write for the length of the block."""
    writer = Writer(fleet, kind, port)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


class Servers:
    """Counts a program's servers in the whole fleet, all the time: the most that ran at once."""

    def __init__(self, fleet: Fleet, program: str) -> None:
        self.most = 0
        self._containers = fleet.containers
        self._pattern = f"pyswarm-{fleet.name}"
        self._program = program.encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Servers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self.most = max(self.most, self.count())

    def count(self) -> int:
        """How many run now."""
        return sum(map(self._is_server, Path("/proc").glob("[0-9]*")))

    def _is_server(self, process: Path) -> bool:
        """Whether it is the first process of a container of the fleet, and the program."""
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].rpartition(b"/")[2].split(b" ")[0] != self._program:
                return False
            status = (process / "status").read_text()
            is_first = next(
                line.split()[-1] == "1" for line in status.splitlines() if line[:6] == "NSpid:"
            )
            return is_first and self._pattern in (process / "cgroup").read_text()
        return False


def wait_for_more(fleet: Fleet, writer: Writer, count: int = 20) -> None:
    """Wait until so many more numbers have been acknowledged."""
    reached = writer.acknowledged + count
    fleet.until(lambda: writer.acknowledged >= reached, f"{count} more writes are acknowledged")


def stored(fleet: Fleet, kind: Kind, port: int) -> set[int]:
    """The numbers that the database has; waits until it answers."""
    found: list[set[int]] = []

    def read() -> bool:
        with suppress(OSError):
            database = connected(fleet, kind, port)
            try:
                found.append(database.numbers())
            finally:
                database.close()
        return bool(found)

    fleet.until(read, f"{kind.name} answers")
    return found[0]


def require_all(fleet: Fleet, kind: Kind, port: int, writer: Writer) -> None:
    """All numbers that were acknowledged before are there, and none that was never sent."""
    acknowledged = writer.acknowledged
    numbers = stored(fleet, kind, port)
    missing = set(range(1, acknowledged + 1)) - numbers
    assert not missing, f"{kind.name} lost {len(missing)} of {acknowledged}: {sorted(missing)[:9]}"
    sent = writer.acknowledged + 1
    assert numbers == set(range(1, len(numbers) + 1)), f"{kind.name} has a gap"
    assert len(numbers) <= sent, f"{kind.name} has {len(numbers)}, of {sent} that were sent"


def require_sound(fleet: Fleet, kind: Kind, service: str) -> None:
    """The database's own check passes, and no second server was started on its files."""
    (task,) = fleet.running(service)
    assert task
    fleet("exec", service, *kind.check)
    violations = fleet.run("exec", service, "cat", f"{kind.data}/violations")
    assert violations.code == 1, violations.out
