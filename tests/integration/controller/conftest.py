"""Controllers for the tests of this directory: in this process, or in one of their own."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from controller.api.queries.info import ControllerFacts
from controller.grpc.admission import Admission
from controller.grpc.calls import ErrorsToStatus
from controller.grpc.control import Control
from pyswarm_core.aio.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from pyswarm_core.aio.system import RandomIds
from pyswarm_core.api.v1 import control_pb2_grpc
from tests.fixtures import build
from tests.fixtures.desk import Desk, StoppedClock, Term
from tests.fixtures.envelopes import FixedAutolock
from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.processes import ControllerProcess


class Api:
    """Both ends of a Control server on loopback, over a leader without a store."""

    def __init__(
        self,
        stub: "control_pb2_grpc.ControlAsyncStub",
        desk: Desk,
        term: Term,
        admission: Admission,
    ) -> None:
        self.stub = stub
        self.desk = desk
        self.term = term
        self.admission = admission
        self.host_is_broken = False

    def routes(self) -> list[str]:
        """The host's."""
        if self.host_is_broken:
            raise RuntimeError("a secret of the house")
        return ["192.0.2.0/24", "0.0.0.0/0"]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    ids, admission = RandomIds(), Admission()
    desk = Desk(build.state(nodes=build.nodes(3)), ids)
    term = Term(desk)
    server = grpc.aio.server(interceptors=[ErrorsToStatus(ids), admission], options=SERVER_OPTIONS)
    facts = ControllerFacts(version="1.2.3", store="none", join_addr="192.0.2.1:2377")
    control = Control(term, StoppedClock(), facts, lambda: both_ends.routes(), FixedAutolock())
    control_pb2_grpc.add_ControlServicer_to_server(control, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        both_ends = Api(control_pb2_grpc.ControlStub(channel), desk, term, admission)
        yield both_ends
    await server.stop(None)
    # pytest holds on to what it passed; the stub would hold on to sockets.
    del both_ends.stub


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    """One etcd for the tests of a module. A module that spoils it has a fixture of its own."""
    process = EtcdProcess(tmp_path_factory.mktemp("etcd"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def controller(tmp_path: Path, etcd: EtcdProcess) -> Iterator[ControllerProcess]:
    """A controller in a process of its own over `etcd`."""
    process = ControllerProcess(tmp_path, etcd)
    process.start()
    yield process
    process.end(signal.SIGKILL)
