"""Every call by every caller of docs/security.md, over TLS with real certificates and tokens.

Calls about objects of a stack are made about objects of the stack `web`, and by callers that are
limited to it also about the same objects of another stack. What is allowed ends with the code of
its call, what is refused with that of the policy.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from controller.api.stacking.finish import finish_stack
from controller.grpc.streams.calls import OPENINGS
from controller.identity.policy import STACK_LABEL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, stacks_pb2, streams_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.users import Role
from pyswarm_core.kinds import STACK
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.specs import NetworkSpec
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.stack import StackId
from pyswarm_core.volumes.volume import VolumeSpec
from tests.fixtures import build, stacks
from tests.fixtures.identity import naming
from tests.fixtures.stackcalls import requests
from tests.integration.controller.fleet import WAIT_S, until, web
from tests.integration.controller.identified import Identified, identified
from tests.integration.controller.matrix import Row, call_of, methods, request_of, rows, send_all

NODE = "0" * 24 + "1"
DESCRIPTORS = dict(methods())
CODE = grpc.StatusCode
ENDLESS = ("Watch", "WatchService")
"""They send an answer, and go on."""
WAITING = ("WaitContainer",)
"""They send nothing before something happens."""
FRESH = ("UpdateService", "RemoveService", "RollbackService", "RestartTask", "RemoveObject")
"""They change what they are about."""
CREATED = ("CreateService", "CreateNetwork", "CreateVolume", "CreateSecret", "CreateConfig")
STACKS = ("ApplyStack", "RollbackStack", "RemoveStack")
OWN = {"web": "web2", "db": "db2"}
"""Stacks that are applied and removed: their objects are no others' business."""
IMAGES = ("ListImages", "InspectImage")
"""They show images of nodes, of which there is none, by the services that need them."""
LISTS = ("ListServices", "ListTasks", "ListContainers", "ListObjects", "Events")
NO_PROCESS = (
    "SignalTask Top Changes PauseContainer UnpauseContainer TraceNetwork Exec Attach PortForward"
    " CopyIn CopyOut Export"
)
"""The tasks of the services wait for a node."""
NAMES_NOTHING = (
    "GetNode,RemoveNode,CreateUserToken,ListUserTokens,RemoveUserToken,"
    "GetObject node,GetObject user,RemoveObject node,RemoveObject user,"
    "IssueUserCertificate colleague"
)
INCOMPLETE = (
    "CreateUser UpdateUser UpdateNode UpdateCluster IssueUserCertificate PullImage RemoveImage"
    " InspectImage SaveImage BuildImage PushImage RenewCertificate Session ReadRegistry"
    " WriteRegistry"
)
CODES = {
    **dict.fromkeys(NO_PROCESS.split(), (CODE.ABORTED,)),
    **dict.fromkeys(NAMES_NOTHING.split(","), (CODE.NOT_FOUND,)),
    **dict.fromkeys(INCOMPLETE.split(), (CODE.INVALID_ARGUMENT,)),
    "GetUnlockKey": (CODE.ABORTED,),
    **dict.fromkeys(("MoveVolume", "CancelVolumeMove"), (CODE.ABORTED,)),
    "ForgetVolume": (CODE.INVALID_ARGUMENT,),
    "ReadVolume": (CODE.NOT_FOUND,),
    **dict.fromkeys(("WriteVolume", "CollectRegistry"), (CODE.UNAVAILABLE,)),
    "Unlock": (CODE.ABORTED,),
    "RotateCa": (CODE.OK, CODE.ABORTED),
    "Join": (CODE.PERMISSION_DENIED,),
    "FetchPayload": (CODE.PERMISSION_DENIED,),
}
"""How calls end that are allowed, where that is not OK. One rotation of the CA may be going on;
a join without a token, and a node without a task, are denied by their use cases; volumes have no
copy.
"""


class Caller(NamedTuple):
    """A caller of a column."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()
    reads_only: bool = False
    """Of a column with several roles, one that has the least."""


class Outcome(NamedTuple):
    """How a call ended, and what it sent before."""

    code: grpc.StatusCode
    details: str
    sent: str


class World:
    """A fleet with services and networks of the stacks `web` and `db`, whose tasks wait for a
    node.
    """

    def __init__(self, fleet: Identified, root: Any) -> None:
        self._fleet = fleet
        self._root = root
        self._numbers = count()

    async def objects(self, stack: str) -> str:
        """A new service, updated once, a new network and a new volume; their name."""
        name = f"{stack}-{next(self._numbers)}"
        made = await self._root.CreateService(self.service(name, stack))
        request = pb.UpdateServiceRequest(ref=name, version=made.service.version)
        request.spec.CopyFrom(made.service.spec)
        request.spec.task_template.container_spec.hostname = "later"
        await self._root.UpdateService(request)
        await self._root.CreateNetwork(self.network(name, stack))
        await self._root.CreateVolume(self.volume(name, stack))
        await self._root.CreateSecret(self.secret(name, stack))
        await self._root.CreateConfig(self.config(name, stack))
        state = self._fleet.current().state
        tasks = state.tasks_of_service(state.service_of_name[name])
        await until(lambda: tasks.slots, "the service has its task")
        return name

    def service(self, name: str, stack: str) -> pb.CreateServiceRequest:
        """A service that no node can run."""
        request = web(1, name)
        request.spec.labels[STACK_LABEL] = stack
        request.spec.task_template.placement.constraints.append("node.hostname==nowhere")
        return request

    def network(self, name: str, stack: str) -> pb.CreateNetworkRequest:
        """A network of the stack."""
        request = pb.CreateNetworkRequest()
        to_proto(NetworkSpec(name=name, labels={STACK_LABEL: stack}), request.spec)
        return request

    def volume(self, name: str, stack: str) -> pb.CreateVolumeRequest:
        """A volume of the stack."""
        request = pb.CreateVolumeRequest()
        to_proto(VolumeSpec(name=name, labels={STACK_LABEL: stack}), request.spec)
        return request

    def secret(self, name: str, stack: str) -> pb.CreatePayloadRequest:
        """A secret of the stack."""
        request = pb.CreatePayloadRequest(data=b"once")
        to_proto(PayloadSpec(name=name, labels={STACK_LABEL: stack}), request.spec)
        return request

    config = secret

    async def stack(self, name: str) -> None:
        """A stack of two versions."""
        ids = self._fleet.current().state.ids_of_names(STACK)
        found = self._fleet.current().state.of(STACK).get(ids.get(name, StackId("")))
        stack_id = found.id if found is not None else StackId("")
        async with asyncio.timeout(WAIT_S):
            while found is not None and found.removing and name in ids:
                await self._fleet.change(
                    lambda state, now, ids: finish_stack(state, stack_id, (), now, ids)
                )
                await asyncio.sleep(0.01)
        for image in ("web:1", "web:2"):
            await self._root.ApplyStack(self.applied(name, image))

    def applied(self, name: str, image: str) -> stacks_pb2.ApplyStackRequest:
        """A stack whose service no node can run."""
        spec = stacks.stack(name, stacks.service(name, "main", image, replicas=0))
        request = ApplyStack(spec=spec, resolve_image="never")
        return to_proto(request, stacks_pb2.ApplyStackRequest())

    def request(self, row: Row, name: str) -> Any:
        """The request of the row about the objects of that name, if it is about some."""
        rpc = row.method.rpartition("/")[2]
        stack = name.partition("-")[0]
        if rpc == "ApplyStack":
            return self.applied(OWN[stack], "web:3")
        if rpc in STACKS:
            return request_of(DESCRIPTORS[row.method], OWN[stack])
        if rpc in CREATED:
            made = f"{stack}-{next(self._numbers)}"
            return getattr(self, rpc.removeprefix("Create").lower())(made, stack)
        if row.kind or rpc not in requests(name):
            request = request_of(DESCRIPTORS[row.method], row.kind)
            if rpc == "ListContainers":
                request.all = True
            return request
        found = requests(name)[rpc]
        if rpc in ("UpdateService", "RollbackService"):
            state = self._fleet.current().state
            service = state.services[state.service_of_name[name]]
            to_proto(service.version, found.version)
            if rpc == "UpdateService":
                to_proto(service.spec, found.spec)
        return found

    async def outcome(self, caller: Caller, row: Row, request: Any) -> Outcome:
        """Make the call. Of one that does not end by itself, OK once it is served."""
        method = DESCRIPTORS[row.method]
        call: Any = call_of(caller.channel, row.method, method)
        sent = []
        async with asyncio.timeout(WAIT_S):
            if method.client_streaming:
                made = call(None, metadata=caller.metadata)
                frames = []
                if method.name in OPENINGS:
                    first = streams_pb2.StreamFrame(**{OPENINGS[method.name]: request})
                    frames.append(first.SerializeToString())
                await send_all(made, *frames)
            else:
                made = call(request, metadata=caller.metadata)
            if method.name in WAITING:
                watches = self._fleet.current().watches
                await until(lambda: len(watches) or made.done(), "it waits or is refused")
                if not made.done():
                    made.cancel()
                    await until(lambda: not len(watches), "the next one is seen")
                    return Outcome(CODE.OK, "", "")
            if method.server_streaming:
                with suppress(grpc.RpcError):
                    while (one := await made.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                        sent.append(str(one))
                        if method.name in ENDLESS:
                            made.cancel()
                            return Outcome(CODE.OK, "", sent[0])
            elif not method.client_streaming:
                with suppress(grpc.RpcError):
                    sent.append(str(await made))
            return Outcome(await made.code(), await made.details() or "", "".join(sent))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    async with identified(tmp_path) as found:
        await found.put(build.node(NODE))
        yield found


async def _callers(fleet: Identified) -> dict[str, list[Caller]]:
    """By column; users once with a certificate and once with a token."""
    agent = fleet.ca.node(NODE)
    await fleet.put(naming(build.node(NODE), agent.cert_pem))
    found: dict[str, list[Caller]] = {
        "guest": [Caller(fleet.dial(fleet.guest))],
        "agent": [Caller(fleet.dial(agent))],
        "controller": [Caller(fleet.dial(fleet.ca.manager("c2")))],
    }

    async def users(column: str, role: Role, *stacks: str) -> None:
        user = await fleet.user("-".join(("the", role, *stacks)), role, *stacks)
        token = (("authorization", f"Bearer {await fleet.token(user)}"),)
        reads_only = bool(stacks) and role is Role.VIEWER
        found.setdefault(column, []).extend(
            (
                Caller(fleet.as_user(user), (), reads_only),
                Caller(fleet.dial(fleet.guest), token, reads_only),
            )
        )

    for role in Role:
        await users("admin, root" if role is Role.ADMIN else role.value, role)
    found["admin, root"].append(Caller(fleet.as_root()))
    await users("of a stack", Role.OPERATOR, "web", OWN["web"])
    await users("of a stack", Role.VIEWER, "web", OWN["web"])
    return found


class Case(NamedTuple):
    """A call of the matrix: its row, its caller, the stack of what it is about."""

    row: Row
    column: str
    caller: Caller
    stack: str
    cell: str
    """`yes` or `no`."""

    @property
    def rpc(self) -> str:
        """The name of the method."""
        return self.row.method.rpartition("/")[2]


def _cases(callers: dict[str, list[Caller]]) -> Iterator[Case]:
    for row in rows():
        for column, known in callers.items():
            for caller in known:
                cell = row.cells[column]
                if caller.reads_only and row.cells["viewer"] == "no":
                    cell = "no"
                case = Case(row, column, caller, "web", "yes" if cell == "theirs" else cell)
                yield case
                if cell == "theirs" and case.rpc not in (*LISTS, *IMAGES):
                    yield case._replace(stack="db", cell="no")


def _wrong(case: Case, outcome: Outcome) -> str:
    """What is not as the cell of the row says; empty: nothing."""
    code, details, sent = outcome
    if case.column == "of a stack" and "db-" in sent:
        return f"shows {sent}"
    if case.cell == "no":
        denied = code is CODE.PERMISSION_DENIED and " may not " in details
        return "" if denied and not sent else f"{outcome} instead of a refusal"
    if case.rpc in LISTS and not case.row.kind and "web-" not in sent:
        return "shows none of its own"
    expected = CODES.get(f"{case.rpc} {case.row.kind}".strip(), (CODE.OK,))
    as_expected = code in expected and " may not " not in details
    return "" if as_expected else f"{outcome} instead of {expected}"


async def test_every_caller_may_call_what_the_document_says_and_nothing_else(
    fleet: Identified,
) -> None:
    callers = await _callers(fleet)
    root = fleet.as_root()
    world = World(fleet, control_pb2_grpc.ControlStub(root))
    shared = {stack: await world.objects(stack) for stack in ("web", "db")}
    wrong, made = [], 0
    for case in _cases(callers):
        is_fresh = case.rpc in FRESH and not case.row.kind and case.cell == "yes"
        name = await world.objects(case.stack) if is_fresh else shared[case.stack]
        if case.rpc in STACKS:
            await world.stack(OWN[case.stack])
        outcome = await world.outcome(case.caller, case.row, world.request(case.row, name))
        made += 1
        if found := _wrong(case, outcome):
            about = f"{case.row.method} {case.row.kind} {case.column} {case.stack}"
            wrong.append(f"{about} {'reads' if case.caller.reads_only else ''}: {found}")
    for channel in (root, *(one.channel for known in callers.values() for one in known)):
        await channel.close(None)
    assert not wrong, "\n".join(wrong)
    assert made > len(rows()) * 14
