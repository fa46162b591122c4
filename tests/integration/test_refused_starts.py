"""Daemons that cannot start say why in one line, before anything is changed.

Each row starts the real program with one thing wrong of the host: tests/unit/test_refused_flags.py
has the flags. A controller stands by that counts who joins.
"""

import fcntl
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import NoReturn

import grpc
import msgspec
import pytest

from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from tests.fixtures import leaks
from tests.fixtures.identity import FLEET
from tests.fixtures.source import ROOT

TIMEOUT_S = 50.0 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))
REFUSED, WRONG = 1, 2


class Door(dispatcher_pb2_grpc.DispatcherServicer):
    """Counts who joins, and lets nobody in."""

    def __init__(self) -> None:
        self.joined = 0

    def Join(
        self, request: dispatcher_pb2.JoinRequest, context: grpc.ServicerContext
    ) -> dispatcher_pb2.JoinReply:
        self.joined += 1
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "the token is another fleet's")
        raise AssertionError

    def Session(self, request_iterator: object, context: grpc.ServicerContext) -> NoReturn:
        """Nobody gets so far."""
        raise AssertionError

    Tunnel = Session
    RenewCertificate = Leave = FetchPayload = Session  # type: ignore[assignment]


class Place(msgspec.Struct):
    """What the rows' words stand for."""

    tmp: Path
    door: Door
    controller: str
    taken: str

    def filled(self, words: str) -> list[str]:
        """The words of a row, one by one."""
        values = {"TMP": str(self.tmp), "CONTROLLER": self.controller, "TAKEN": self.taken}
        values["RUN"] = leaks.run_name()
        values["SECRET"] = FLEET.token
        for name, value in values.items():
            words = words.replace(name, value)
        return words.split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    tmp = tmp_path_factory.mktemp("starts")
    (tmp / "file").write_text("no folder, and no PEM\n")
    (tmp / "damaged").mkdir()
    (tmp / "damaged/identity.json").write_text('{"node_id": "n1", "tok')
    (tmp / "mangled").mkdir()
    (tmp / "mangled/identity.json").write_bytes(b'{"node_id": "n\xff"}')
    door = Door()
    with futures.ThreadPoolExecutor(2) as pool, socket.create_server(("127.0.0.1", 0)) as taken:
        server = grpc.server(pool)
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(door, server)
        port = server.add_secure_port("127.0.0.1:0", FLEET.server())
        server.start()
        yield Place(tmp, door, f"127.0.0.1:{port}", f"127.0.0.1:{taken.getsockname()[1]}")
        server.stop(None).wait()


AGENT = "--controller CONTROLLER --join-token SECRET --fleet tst1 --cgroup-parent /pyswarm-RUN"
AGENT += " --advertise-addr 192.0.2.7 --state-dir TMP/state --run-dir TMP/run --metrics-addr "
FREE = "127.0.0.1:0"

AGENTS = [
    (AGENT + "TAKEN", WRONG, ("metrics-addr", "TAKEN", "expected a free HOST:PORT")),
    (AGENT + "nonsense", WRONG, ("metrics-addr", '"nonsense"', "expected a free HOST:PORT")),
    (AGENT + "192.0.2.9:1", WRONG, ("metrics-addr", "192.0.2.9:1", "expected a free HOST:PORT")),
    (AGENT + f"{FREE} --join-token=", WRONG, ("--controller HOST:PORT", "--join-token TOKEN")),
    (
        AGENT + f"{FREE} --join-token= --join-token-file TMP/none",
        WRONG,
        ("--join-token-file", "TMP/none", "expected a file with the token"),
    ),
    (AGENT + f"{FREE} --state-dir TMP/file/x", WRONG, ("state-dir", "TMP/file/x", "directory")),
    (AGENT + f"{FREE} --run-dir TMP/file", WRONG, ("run-dir", "TMP/file", "expected a directory")),
    (
        AGENT + f"{FREE} --state-dir TMP/damaged",
        WRONG,
        ("TMP/damaged/identity.json", "rejoin"),
    ),
    (
        AGENT + f"{FREE} --state-dir TMP/mangled",
        WRONG,
        ("TMP/mangled/identity.json", "rejoin"),
    ),
]

CONTROLLER = "--state-dir TMP/c --listen 127.0.0.1:0 --metrics-addr "

CONTROLLERS = [
    (CONTROLLER + "TAKEN", WRONG, ("metrics-addr", "TAKEN", "expected a free HOST:PORT")),
    (
        CONTROLLER + f"{FREE} --listen TAKEN",
        WRONG,
        ("listen", "TAKEN", "expected a free HOST:PORT"),
    ),
    (
        CONTROLLER + f"{FREE} --listen 192.0.2.9:1",
        WRONG,
        ("listen", "192.0.2.9:1", "expected a free"),
    ),
    (CONTROLLER + f"{FREE} --listen unix:///no/such/x", WRONG, ("listen", "unix:///no/such/x")),
    (CONTROLLER + f"{FREE} --state-dir TMP/file/x", WRONG, ("state-dir", "TMP/file/x", "expected")),
    (
        CONTROLLER + f"{FREE} --etcd-endpoints 127.0.0.1:1 --etcd-cafile TMP/file",
        WRONG,
        ("etcd-cafile", "TMP/file", "it is no PEM"),
    ),
    (
        CONTROLLER + f"{FREE} --registry-addr here",
        WRONG,
        ("registry-addr", "here", "expected HOST:PORT"),
    ),
    (CONTROLLER + f"{FREE} --registry-quota many", WRONG, ("registry-quota", "many")),
]

ROWS = [("agent", *row) for row in AGENTS] + [("controller", *row) for row in CONTROLLERS]


def start(program: str, words: list[str], path: str = os.environ["PATH"]) -> tuple[int, str]:
    """How a program ended, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", program, "--log-level", "error", *words],
        cwd=ROOT,
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def _own(row: tuple[object, ...], words: str) -> str:
    """The words with folders of the row's own: rows are tried at the same time."""
    number = ROWS.index(row)  # type: ignore[arg-type]
    return re.sub(r"TMP/(state|run|c)\b(?!-)", rf"TMP/\g<1>{number}", words)


@pytest.mark.parametrize("first", range(0, len(ROWS), 8))
def test_what_is_wrong_is_said_in_one_line_and_changes_nothing(place: Place, first: int) -> None:
    rows = ROWS[first : first + 8]
    with futures.ThreadPoolExecutor(4) as pool:
        ends = pool.map(lambda row: start(row[0], place.filled(_own(row, row[1]))), rows)
        found = list(ends)
    for row, (ended, said) in zip(rows, found, strict=True):
        program, words, code, parts = row
        assert said.count("\n") == 1, f"{program} {words}:\n{said}"
        assert said.startswith("Error: "), said
        for part in parts:
            assert " ".join(place.filled(_own(row, part))) in said
        assert ended == code, said
    assert place.door.joined == 0
    assert not list(place.tmp.glob("state*/identity.json"))
    assert not list(place.tmp.glob("c*/etcd"))


def test_a_missing_program_is_named_with_its_package(place: Place, tmp_path: Path) -> None:
    words = place.filled(CONTROLLER + FREE)
    code, said = start("controller", words, path=str(tmp_path))
    assert (code, said.count("\n")) == (REFUSED, 1), said
    assert "etcd is not installed: install it" in said


def test_a_host_without_room_for_its_identity_does_not_join(place: Place) -> None:
    small = place.tmp / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "small", small], check=True)
    try:
        code, said = start("agent", place.filled(f"{AGENT}{FREE} --state-dir {small}"))
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
    assert (code, said.count("\n")) == (REFUSED, 1), said
    assert f"this host cannot join: no space left on device: {small} (" in said
    assert place.door.joined == 0


def test_a_folder_is_one_agents_alone(place: Place) -> None:
    (place.tmp / "state").mkdir(exist_ok=True)
    with (place.tmp / "state/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = start("agent", place.filled(AGENT + FREE))
    assert (code, said.count("\n")) == (WRONG, 1), said
    assert "state" in said
    assert "is in use by another process" in said
    assert place.door.joined == 0
