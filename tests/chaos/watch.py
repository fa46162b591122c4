"""What is seen of a fleet while faults happen: node states, running replicas, requests answered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import grpc

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, objects_pb2
from tests.chaos.faults import HOSTS
from tests.e2e.acceptance.fleet import Fleet
from tests.e2e.acceptance.web import LATE_S, PAGE, page_at, read
from tests.fixtures.parts import joined

LOOK_EVERY_S = 0.05
ASK_EVERY_S = 0.05
CALL_LIMIT_S = 2.0
ADDRESSES = {host: f"10.99.0.{number}" for number, host in enumerate(HOSTS, 1)}


class Request(NamedTuple):
    """One request to the page."""

    began: float
    host: str
    """Whose address was asked."""
    failure: str = ""
    """Why there was no answer; empty if there was one."""


class Sight(NamedTuple):
    """What the controller said at one time."""

    at: float
    states: dict[str, str]
    running_on: tuple[str, ...]
    """The host of each running task of the service that should run."""
    desired: int
    """Replicas that users asked for."""

    def recovered_without(self, host: str) -> bool:
        """Whether as many replicas as wanted run elsewhere."""
        return sum(where != host for where in self.running_on) >= self.desired


Condition = Callable[[Sight], bool]


class Watch:
    """Looks and asks from threads of its own, on the clock of time.monotonic."""

    def __init__(self, fleet: Fleet, service: str, port: int) -> None:
        self.requests: list[Request] = []
        self.sights: list[Sight] = []
        self._fleet = fleet
        self._service = service
        self._port = port
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """In the block."""
        asking = [threading.Thread(target=self._ask, args=(host,)) for host in HOSTS]
        threads = [threading.Thread(target=self._look), *asking]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def first(self, since: float, is_so: Condition) -> float | None:
        """Seconds from `since` to the first sight of which `is_so` holds; None: never."""
        return next(
            (sight.at - since for sight in self.sights if sight.at >= since and is_so(sight)), None
        )

    def _look(self) -> None:
        target = f"unix:{self._fleet.run_dir}/pyswarm.sock"
        with channel(target, None, aio=False) as connection:
            stub = control_pb2_grpc.ControlStub(connection)
            while not self._ended.wait(LOOK_EVERY_S):
                try:
                    self.sights.append(self._sight(stub))
                except grpc.RpcError:
                    continue

    def _sight(self, stub: control_pb2_grpc.ControlStub) -> Sight:
        of_service = pb.ListTasksRequest(
            services=[self._service], filters=["desired-state=running"]
        )
        service = stub.GetService(pb.RefRequest(ref=self._service), timeout=CALL_LIMIT_S).service
        nodes = joined(
            pb.ListNodesReply, stub.ListNodes(pb.ListRequest(), timeout=CALL_LIMIT_S)
        ).nodes
        tasks = joined(pb.ListTasksReply, stub.ListTasks(of_service, timeout=CALL_LIMIT_S)).tasks
        return Sight(
            time.monotonic(),
            {view.node.description.hostname: view.node.status.state for view in nodes},
            tuple(
                view.node_name
                for view in tasks
                if view.task.state == objects_pb2.TASK_STATE_RUNNING
            ),
            service.spec.mode.replicated.replicas,
        )

    def _ask(self, host: str) -> None:
        url = f"http://{ADDRESSES[host]}:{self._port}{PAGE}"
        while not self._ended.wait(ASK_EVERY_S):
            began, failure = time.monotonic(), ""
            try:
                if read(page_at(self._fleet, "lan", url, LATE_S)) is None:
                    failure = "another page"
            except OSError as error:
                failure = str(error)
            self.requests.append(Request(began, host, failure))
