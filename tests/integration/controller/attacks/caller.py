"""A user that calls all the time, in a process of its own, while others attack.

`python -m tests.integration.controller.attacks.caller FOLDER ADDRESS USER` calls until its input
ends. Prints how long each call took, in seconds, and the errors, as JSON.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import msgspec

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.kinds import USER
from pyswarm_core.objects import Cluster
from tests.fixtures.identity import Pki
from tests.integration.controller.attacks.target import CLUSTER, Target

PAUSE_S = 0.02
LIMIT_S = 10.0
_USER = "caller"


class Calls:
    """What the user saw."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self.errors: list[str] = []

    @property
    def p99_s(self) -> float:
        """Of 100 calls, 99 took less."""
        ordered = sorted(self.took_s)
        return ordered[int(len(ordered) * 0.99)] if ordered else float("inf")


@contextmanager
def calling(target: Target) -> Iterator[Calls]:
    """Call during the block."""
    calls = Calls()
    with channel(f"unix:{target.socket.removeprefix('unix:')}", None, aio=False) as root:
        user_id = _user(control_pb2_grpc.ControlStub(root))
    command = [sys.executable, "-m", __name__, str(target.folder), target.address, user_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        try:
            yield calls
        finally:
            process.stdin.close()
            calls.took_s, calls.errors = json.loads(process.stdout.read())


def _user(stub: "control_pb2_grpc.ControlStub") -> str:
    request = pb.CreateUserRequest()
    request.spec.name, request.spec.role = _USER, "viewer"
    try:
        return str(stub.CreateUser(request, timeout=LIMIT_S).user.id)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
    found = stub.GetObject(pb.ObjectRequest(kind="user", ref=_USER), timeout=LIMIT_S)
    return str(USER.decode(found.value).id)


def _call(folder: Path, address: str, user_id: str) -> Calls:
    calls, ended = Calls(), threading.Event()
    cluster = msgspec.json.decode((folder / CLUSTER).read_bytes(), type=Cluster)

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    with channel(address, Pki(cluster).user(user_id), aio=False) as connection:
        stub = control_pb2_grpc.ControlStub(connection)
        stub.GetInfo(pb.GetInfoRequest(), timeout=LIMIT_S)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not ended.wait(PAUSE_S):
            began = time.monotonic()
            try:
                stub.GetInfo(pb.GetInfoRequest(), timeout=LIMIT_S)
            except grpc.RpcError as error:
                calls.errors.append(f"{error.code().name}: {error.details()}")
            calls.took_s.append(time.monotonic() - began)
    return calls


if __name__ == "__main__":
    seen = _call(Path(sys.argv[1]), *sys.argv[2:])
    sys.stdout.write(json.dumps((seen.took_s, seen.errors)))
