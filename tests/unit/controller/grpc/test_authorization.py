"""Requests are checked before their calls begin, byte streams again on the task that they found."""

from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from msgspec.structs import replace

from controller.brain.slices import Slices
from controller.grpc.authorization import Authorization
from controller.grpc.callers import set_caller
from controller.grpc.streams.calls import StreamCalls
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL, STACK_LABEL
from pyswarm_core.api.v1 import dispatcher_pb2, streams_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.identity.users import User, UserId, UserSpec
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Service
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.fixtures.desk import Desk, Term

STREAMS: list[tuple[str, Any]] = [
    ("Exec", streams_pb2.ExecRequest(ref="mine", args=["id"])),
    ("Attach", streams_pb2.AttachRequest(ref="mine")),
    ("PortForward", streams_pb2.PortForwardRequest(ref="mine", port=80)),
    ("CopyIn", streams_pb2.CopyInRequest(ref="mine", path="/")),
    ("CopyOut", streams_pb2.CopyOutRequest(ref="mine", path="/")),
    ("Export", streams_pb2.ExportRequest(ref="mine")),
]
NAMES = [rpc for rpc, _ in STREAMS]
IN_WEB = {STACK_LABEL: "web"}


def _named(service: Service, name: str, labels: dict[str, str], **container: Any) -> Service:
    template = service.spec.task_template
    changed = replace(template.container_spec, **container)
    spec = replace(service.spec, task_template=replace(template, container_spec=changed))
    return replace(service, spec=replace(spec, name=name, labels=labels))


class _World:
    """The containers `mine` and `boss`, and the operator ann. `asked`: requests to the agent;
    `lookups`: work that was done in slices.
    """

    def __init__(self, stacks: tuple[str, ...] = (), **of_boss: Any) -> None:
        self._labels = IN_WEB if stacks else {}
        self._of_boss = of_boss
        self.desk = Desk(build.state(nodes=build.nodes(1)), Numbered())
        self.asked: list[dispatcher_pb2.OpenTunnel] = []
        self.lookups = 0
        self._name("mine", "boss")
        user = User(id=UserId("u1"), spec=UserSpec(name="ann", role=Role.OPERATOR, stacks=stacks))
        tasks = [build.task(f"{one}.1", node="n1") for one in ("first", "second")]
        self.desk.put(Writes(objects=(user,), tasks=tasks))
        self.desk.agents[NodeId("n1")] = self._answer
        run = self.desk.watches.runner.run

        async def counted(work: Slices[Any]) -> Any:
            self.lookups += 1
            return await run(work)

        self.desk.watches.runner.run = counted  # type: ignore[method-assign]
        set_caller(Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR, stacks))

    def _answer(self, request: dispatcher_pb2.OpenTunnel) -> list[dispatcher_pb2.TunnelFrame]:
        self.asked.append(request)
        return []

    def _name(self, first: str, second: str) -> None:
        one = _named(build.container("first"), first, self._labels)
        two = _named(build.container("second"), second, {}, **self._of_boss)
        self.desk.put(Writes(objects=(one,)))
        self.desk.put(Writes(objects=(two,)))

    def rename(self) -> None:
        """The name `mine` becomes that of the other container."""
        self._name("other", "mine")

    async def call(self, rpc: str, request: Any, meanwhile: Callable[[], None]) -> None:
        """Call the RPC through the interceptor; `meanwhile` runs once it is authorized."""
        calls = StreamCalls()  # type: ignore[abstract]
        calls._leadership = Term(self.desk)
        behaviour: Callable[..., Awaitable[None]] = getattr(calls, rpc)

        async def handle(request: Any, context: Any) -> None:
            meanwhile()
            await behaviour(request, context)

        async def continuation(_: object) -> Any:
            return grpc.unary_unary_rpc_method_handler(handle)

        details: Any = Mock(method=f"{CONTROL}{rpc}")
        wrapped = await Authorization(Term(self.desk)).intercept_service(continuation, details)
        await wrapped.unary_unary(request, _Context())


class _Context:
    """A caller that sends nothing more."""

    async def read(self) -> Any:
        return None

    async def write(self, frame: Any) -> None:
        pass


@pytest.mark.parametrize(("rpc", "request_"), STREAMS, ids=NAMES)
async def test_a_stream_to_a_task_with_power_is_refused_also_if_it_got_the_name_meanwhile(
    rpc: str, request_: Any
) -> None:
    world = _World(privileged=True)
    with pytest.raises(PermissionDenied, match="with --privileged true"):
        await world.call(rpc, request_, world.rename)
    assert world.asked == []
    assert len(world.desk.audit.log) == 0


@pytest.mark.parametrize(("rpc", "request_"), STREAMS, ids=NAMES)
async def test_a_stream_to_another_stack_is_refused_also_if_it_got_the_name_meanwhile(
    rpc: str, request_: Any
) -> None:
    world = _World(stacks=("web",))
    with pytest.raises(PermissionDenied, match='task "mine" does not belong to it'):
        await world.call(rpc, request_, world.rename)
    assert world.asked == []


@pytest.mark.parametrize(("rpc", "request_"), STREAMS, ids=NAMES)
async def test_a_stream_that_is_allowed_is_looked_up_in_slices(rpc: str, request_: Any) -> None:
    world = _World()
    await world.call(rpc, request_, lambda: None)
    assert len(world.asked) == 1
    assert world.lookups == 2  # by its authorization, and by the call
