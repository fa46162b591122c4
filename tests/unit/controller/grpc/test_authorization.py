"""Requests are checked before their calls begin, and the calls are about what was checked then."""

from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from msgspec.structs import replace

from controller.api.queries.info import ControllerFacts
from controller.brain.slices import Slices
from controller.grpc.authorization import Authorization
from controller.grpc.callers import set_caller
from controller.grpc.control import Control
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL, RULES, STACK_LABEL, Named
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2, specs_pb2, stacks_pb2, streams_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, PermissionDenied, PyswarmError, Unavailable
from pyswarm_core.identity.users import User, UserId, UserSpec
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Endpoint, PreviousSpec, Service
from pyswarm_core.payloads.payload import Config, PayloadId, PayloadSpec, Secret
from pyswarm_core.specs import (
    EndpointSpec,
    Ipam,
    IpamConfig,
    NetworkSpec,
    PortConfig,
    ServiceSpec,
)
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.labels import CONTAINER_NAME
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.volume import VolumeId
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.desk import Desk, StoppedClock, Term
from tests.fixtures.envelopes import FixedAutolock
from tests.fixtures.stackcalls import requests, stream_requests
from tests.fixtures.stacks import service, stack

STREAMS = stream_requests("mine")
REQUESTS = requests("mine")
NAME_NONE = (
    Named.NOTHING,
    Named.FLEET,
    Named.LISTED,
    Named.NEW_SERVICE,
    Named.NEW_NETWORK,
    Named.NEW_VOLUME,
    Named.NEW_PAYLOAD,
    Named.USER,
    # The label of a stack is its name: no other stack can get it.
    Named.NEW_STACK,
    Named.EARLIER_STACK,
    Named.STACK,
)
IN_WEB = {STACK_LABEL: "web"}
OF_FIRST = {"first", "first.1"}
"""The ids of the caller's objects; those of somebody else begin with `second`."""


def _named(service: Service, name: str, labels: dict[str, str], **container: Any) -> Service:
    template = service.spec.task_template
    changed = replace(template.container_spec, **container)
    spec = replace(service.spec, task_template=replace(template, container_spec=changed))
    spec = replace(spec, name=name, labels=labels)
    return replace(service, spec=spec, previous_specs=(PreviousSpec(version=1, spec=spec),))


class _World:
    """The objects `mine` and `boss`, and the operator ann. `asked`: requests to the agent; `told`:
    what ann was sent; `lookups`: work that was done in slices.
    """

    def __init__(
        self,
        stacks: tuple[str, ...] = (),
        does: TaskState = TaskState.RUNNING,
        mine: str = "mine",
        **of_boss: Any,
    ) -> None:
        self._labels = IN_WEB if stacks else {}
        self._of_boss = of_boss
        self.desk = Desk(build.state(nodes=build.nodes(1)), Numbered())
        self.asked: list[dispatcher_pb2.OpenTunnel] = []
        self.told: list[Any] = []
        self.lookups = 0
        self._name(mine, "boss")
        user = User(id=UserId("u1"), spec=UserSpec(name="ann", role=Role.OPERATOR, stacks=stacks))
        tasks = [build.task(f"{one}.1", node="n1", state=does) for one in ("first", "second")]
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
        for object_id, name, labels, container in (
            ("first", first, self._labels, {}),
            ("second", second, {}, self._of_boss),
        ):
            service = _named(build.container(object_id), name, labels, **container)
            network = build.network(object_id)
            network = replace(network, spec=replace(network.spec, name=name, labels=labels))
            volume = build.volume(object_id, "n1", labels=labels)
            volume = replace(volume, spec=replace(volume.spec, name=name))
            spec = PayloadSpec(name=name, labels=labels)
            secret = Secret(id=PayloadId(object_id), spec=spec, data=b"one")
            config = Config(id=PayloadId(object_id), spec=spec, data=b"one")
            self.desk.put(Writes(objects=(secret, config, service, network, volume)))

    def rename(self, second: str = "mine") -> None:
        """The name `mine` becomes that of the other objects."""
        self._name("other", second)

    async def call(self, rpc: str, request: Any, meanwhile: Callable[[], None]) -> Any:
        """Call the RPC through the interceptor; `meanwhile` runs once it is authorized. Returns the
        request that was served.
        """
        facts = ControllerFacts(version="1.2.3", store="none", join_addr="192.0.2.1:2377")
        calls = Control(Term(self.desk), StoppedClock(), facts, list, FixedAutolock())
        behaviour: Callable[..., Awaitable[Any]] = getattr(calls, rpc)
        served = []

        async def handle(request: Any, context: Any) -> None:
            meanwhile()
            served.append(request)
            self.told.append(await behaviour(request, context))

        async def continuation(_: object) -> Any:
            return grpc.unary_unary_rpc_method_handler(handle)

        details: Any = Mock(method=f"{CONTROL}{rpc}")
        wrapped = await Authorization(Term(self.desk)).intercept_service(continuation, details)
        try:
            await wrapped.unary_unary(request, _Context(self.told, ends=rpc == "WatchService"))
        except PyswarmError as error:
            if not served:
                raise
            self.told.append(error)
        return served[0]


class _Context:
    """A caller that sends nothing more, and perhaps has enough of the first answer."""

    def __init__(self, told: list[Any], *, ends: bool) -> None:
        self._told = told
        self._ends = ends

    async def read(self) -> Any:
        return None

    async def write(self, frame: Any) -> None:
        self._told.append(frame)
        if self._ends:
            raise Unavailable("the caller has gone")


def _request(rpc: str, world: _World) -> Any:
    request = REQUESTS[rpc]
    if rpc == "UpdateService":
        spec = world.desk.state.services[ServiceId("first")].spec
        to_proto(replace(spec, name="other"), request.spec)
    return request


def _names(request: Any) -> list[str]:
    fields = request.DESCRIPTOR.fields_by_name
    single = [getattr(request, one) for one in ("ref", "source", "target") if one in fields]
    if request.DESCRIPTOR.name == "WriteVolumeRequest":
        single.remove(request.source)  # the name of a node
    return single + (list(request.refs) if "refs" in fields else [])


def test_every_call_about_an_object_of_a_stack_is_examined_here() -> None:
    about = [method for method, rule in RULES.items() if rule.role and rule.named not in NAME_NONE]
    assert {method.removeprefix(CONTROL) for method in about} == set(REQUESTS)


@pytest.mark.parametrize("rpc", REQUESTS)
async def test_a_call_is_about_the_object_that_was_authorized_whoever_has_its_name(
    rpc: str,
) -> None:
    does = TaskState.COMPLETE if rpc == "WaitContainer" else TaskState.RUNNING
    world = _World(stacks=("web",), does=does)
    request = _request(rpc, world)
    before = request.SerializeToString()
    state = world.desk.state
    others: list[Any] = []

    def meanwhile() -> None:
        world.rename()
        others.extend(_others(state))

    served = await world.call(rpc, request, meanwhile)
    assert set(_names(served)) <= OF_FIRST
    assert request.SerializeToString() == before, "the audit log has the caller's words"
    told = [str(one) for one in (*world.told, *world.asked)]
    assert told, "something happened"
    assert not [one for one in told if "second" in one or '"mine' in one]
    assert _others(state) == others


def _others(state: Any) -> list[Any]:
    """What somebody else has."""
    return [
        state.services[ServiceId("second")],
        state.tasks[TaskId("second.1")],
        state.networks.get("second"),
        state.of(VOLUME).get(VolumeId("second")),
    ]


@pytest.mark.parametrize("rpc", STREAMS)
async def test_a_stream_is_to_the_task_without_power_that_was_authorized(rpc: str) -> None:
    world = _World(privileged=True)
    await world.call(rpc, STREAMS[rpc], world.rename)
    assert len(world.asked) == 1
    assert "first.1" in str(world.asked)
    world.rename()
    with pytest.raises(PermissionDenied, match="with --privileged true"):
        await world.call(rpc, STREAMS[rpc], lambda: None)
    assert len(world.asked) == 1


@pytest.mark.parametrize("rpc", STREAMS)
async def test_a_stream_that_is_allowed_is_looked_up_in_slices(rpc: str) -> None:
    world = _World()
    await world.call(rpc, STREAMS[rpc], lambda: None)
    assert len(world.asked) == 1
    assert world.lookups == 2  # by its authorization, and by the call


async def test_arguments_of_exec_have_no_secrets_in_the_audit_log() -> None:
    world = _World()
    args = ["mysql", "--password", "my secret phrase", "-u", "app:a b", "PGPASSWORD=c d", "-v"]
    await world.call("Exec", streams_pb2.ExecRequest(ref="mine", args=args), lambda: None)
    world.desk.audit.log.publish()
    (record,) = [one for records in world.desk.audit.log.kept() for one in records]
    (change,) = record.changes
    shown = "mysql --password *** -u app:*** PGPASSWORD=*** -v"
    assert (record.verb, change.field, change.after) == ("exec", "Command", shown)


@pytest.mark.parametrize("name", ["second", "secon", "second.1"])
async def test_a_name_that_is_an_id_of_another_object_does_not_lead_there(name: str) -> None:
    """The caller's container has the id of another one, or its beginning, as its name."""
    world = _World(stacks=("web",), mine=name)
    for rpc in ("GetContainer", "Why", "Top", "Logs"):
        request = type(REQUESTS[rpc])(ref=name)
        if name == "secon":  # weaker than a name
            await world.call(rpc, request, lambda: world.rename("boss"))
            world._name(name, "boss")
        else:
            with pytest.raises(PermissionDenied, match=f'(service|task) "{name}" does not'):
                await world.call(rpc, request, lambda: None)
    assert (name == "secon") is bool(world.told)
    assert not [one for one in (*world.told, *world.asked) if "boss" in str(one)]


async def test_candidates_of_an_ambiguous_ref_are_those_that_the_caller_sees() -> None:
    world = _World(stacks=("web",))
    tasks = [
        replace(build.task(f"{service}.1", node="n1"), id=TaskId(task_id), created_at=NOW)
        for service, task_id in (("first", "ab1"), ("first", "ab2"), ("second", "ab3"))
    ]
    tasks += [replace(tasks[2], id=TaskId(one)) for one in ("abc", "abd", "cd1", "cd2", "ef1")]
    tasks.append(replace(tasks[0], id=TaskId("ef2")))
    world.desk.put(Writes(tasks=tasks))
    for ref, text in (
        ("ab", 'task "ab" is ambiguous: it could be ab1, ab2'),
        ("ef", 'task "ef" is ambiguous: it could be ef2 or one of another stack'),
        ("cd", 'no such task: "cd"'),
    ):
        for rpc in ("Logs", "TaskChecks", "GetContainer"):
            with pytest.raises(NotFound) as missing:
                await world.call(rpc, type(REQUESTS[rpc])(ref=ref), lambda: None)
            assert str(missing.value) == text
    asked = pb.ListTasksRequest(tasks=["cd"])
    await world.call("ListTasks", asked, lambda: None)
    assert str(world.told[-1]) == 'no such task: "cd"', "also where the handler looks it up"


def _of_another_stack(desk: Desk) -> None:
    """A service and a network of stack `blog`, which publish, have and hold what others ask for."""
    labels = {STACK_LABEL: "blog"}
    port = PortConfig(target_port=80, published_port=8080)
    network = build.network("n2")
    network = replace(network, spec=replace(network.spec, name="blog_net", labels=labels))
    network = replace(network, subnet="10.99.0.0/16")
    web = build.service("blog_web", replicas=0)
    spec = replace(
        web.spec,
        labels={**labels, CONTAINER_NAME: "app"},
        endpoint_spec=EndpointSpec(ports=(port,)),
    )
    desk.put(Writes(objects=(network, replace(web, spec=spec, endpoint=Endpoint(ports=(port,))))))


def _service(**more: Any) -> pb.CreateServiceRequest:
    spec = replace(build.service("web_a").spec, labels=IN_WEB, **more)
    return pb.CreateServiceRequest(spec=to_proto(spec, specs_pb2.ServiceSpec()))


def _network(subnet: str) -> pb.CreateNetworkRequest:
    ipam = Ipam(config=(IpamConfig(subnet=subnet),))
    spec = NetworkSpec(name="web_net", labels=IN_WEB, ipam=ipam)
    return pb.CreateNetworkRequest(spec=to_proto(spec, specs_pb2.NetworkSpec()))


def _stack(*services: ServiceSpec, **more: Any) -> stacks_pb2.ApplyStackRequest:
    spec = stack("web", *services, **more)
    request = ApplyStack(spec=spec, resolve_image="never")
    return to_proto(request, stacks_pb2.ApplyStackRequest())


NAMED_APP = replace(service("web", "a"), labels={**IN_WEB, CONTAINER_NAME: "app"})
PUBLISHING = service("web", "a", port=8080)
TAKEN = [
    ("CreateService", _service(endpoint_spec=PUBLISHING.endpoint_spec), "port 8080"),
    ("CreateNetwork", _network("10.99.1.0/24"), "subnet"),
    ("ApplyStack", _stack(PUBLISHING), "port 8080"),
    ("ApplyStack", _stack(NAMED_APP), 'container_name "app"'),
]


@pytest.mark.parametrize(("rpc", "request_", "text"), TAKEN)
@pytest.mark.parametrize("stacks", [("web",), ()])
async def test_who_has_what_a_caller_asks_for_is_told_to_who_may_see_it(
    rpc: str, request_: Any, text: str, stacks: tuple[str, ...]
) -> None:
    world = _World(stacks=stacks)
    _of_another_stack(world.desk)
    await world.call(rpc, request_, lambda: None)
    told = str(world.told[-1])
    assert isinstance(world.told[-1], Conflict)
    assert text in told
    if stacks:
        assert "outside your stacks" in told
        assert not [word for word in ("blog_web", '"blog"', "network blog_net") if word in told]
    else:
        assert "blog" in told
        assert "outside" not in told


async def test_what_the_same_change_creates_is_no_other_stacks() -> None:
    world = _World(stacks=("web",))
    request = _stack(service("web", "a", port=8080), service("web", "b", port=8080))
    await world.call("ApplyStack", request, lambda: None)
    assert 'port 8080/tcp is published by service "web_' in str(world.told[-1])
