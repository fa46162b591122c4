"""Users that are limited to stacks, over TLS: what they are shown, and what changes meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.api.changes.removal import remove_object
from controller.identity.policy import STACK_LABEL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, stats_pb2
from pyswarm_core.api.v1.containers_pb2 import ListContainersRequest
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.users import Role
from pyswarm_core.kinds import NETWORK, USER
from pyswarm_core.specs import NetworkSpec
from tests.fixtures import build
from tests.integration.controller.fleet import WAIT_S, web
from tests.integration.controller.identified import Identified, identified

DENIED = grpc.StatusCode.PERMISSION_DENIED
NODE = "0" * 24 + "1"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    """With a service of stack `web`, one of stack `db` and one of none."""
    async with identified(tmp_path) as found:
        await found.put(build.node(NODE))
        async with found.as_root() as channel:
            for name in ("web", "db", "plain"):
                await _users(channel).CreateService(_service(f"{name}_main", name))
        yield found


def _users(channel: grpc.aio.Channel) -> Any:
    return control_pb2_grpc.ControlStub(channel)


def _service(name: str, stack: str, replicas: int = 1) -> pb.CreateServiceRequest:
    request = web(replicas, name)
    if stack != "plain":
        request.spec.labels[STACK_LABEL] = stack
    return request


async def _all(call: Any) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        return [message async for message in call]


async def _ci(fleet: Identified, *stacks: str) -> tuple[Any, tuple[tuple[str, str], ...]]:
    user = await fleet.user("ci", Role.OPERATOR, *stacks)
    return user, (("authorization", f"Bearer {await fleet.token(user)}"),)


async def test_lists_and_events_have_the_objects_of_the_stacks(fleet: Identified) -> None:
    _, metadata = await _ci(fleet, "web")
    async with fleet.dial(fleet.guest) as channel:
        stub = _users(channel)
        parts = await _all(stub.ListServices(pb.ListRequest(), metadata=metadata))
        names = [one.service.spec.name for part in parts for one in part.services]
        assert names == ["web_main"]
        parts = await _all(stub.ListTasks(pb.ListTasksRequest(), metadata=metadata))
        assert {one.service_name for part in parts for one in part.tasks} == {"web_main"}
        parts = await _all(stub.ListContainers(ListContainersRequest(all=True), metadata=metadata))
        assert {one.service_name for part in parts for one in part.containers} == {"web_main"}
        asked = pb.ListObjectsRequest(kind="service")
        parts = await _all(stub.ListObjects(asked, metadata=metadata))
        assert sum(len(part.objects) for part in parts) == 1
        parts = await _all(stub.Events(pb.EventsRequest(), metadata=metadata))
        events = [event for part in parts for event in part.events]
        assert {(event.name, event.stack) for event in events} == {("web_main", "web")}
        assert {event.type for event in events} == {"service", "task"}


async def test_stats_are_of_the_stacks(fleet: Identified) -> None:
    _, metadata = await _ci(fleet, "web")
    async with fleet.dial(fleet.guest) as channel:
        stub = _users(channel)
        parts = await _all(stub.Stats(stats_pb2.StatsRequest(all=True), metadata=metadata))
        assert {one.name for part in parts for one in part.tasks} == {"web_main.1"}
        parts = await _all(stub.Stats(stats_pb2.StatsRequest(refs=["web_main"]), metadata=metadata))
        assert parts == []
        for refs in (["db_main"], ["web_main", "plain_main.1"]):
            call = stub.Stats(stats_pb2.StatsRequest(refs=refs), metadata=metadata)
            assert await call.code() is DENIED


async def test_unused_networks_are_those_of_the_stacks(fleet: Identified) -> None:
    async with fleet.as_root() as root:
        for stack in ("web", "db"):
            request = pb.CreateNetworkRequest()
            spec = NetworkSpec(name=f"{stack}_net", labels={STACK_LABEL: stack})
            to_proto(spec, request.spec)
            await _users(root).CreateNetwork(request)
    _, metadata = await _ci(fleet, "web")
    viewer = await fleet.token(await fleet.user("viewer", Role.VIEWER))
    async with fleet.dial(fleet.guest) as channel:
        stub = _users(channel)

        async def listed(text: str) -> list[str]:
            asked = pb.ListObjectsRequest(kind="network", filters=[text])
            parts = await _all(stub.ListObjects(asked, metadata=metadata))
            found = [one for part in parts for one in part.objects]
            return [NETWORK.decode(one.value).spec.name for one in found]

        assert await listed("dangling=true") == ["web_net"]
        assert await listed("type=builtin") == ["bridge", "host", "none"]
        for name in ("db_net", "bridge"):
            other = pb.ObjectRequest(kind="network", ref=name)
            assert await stub.RemoveObject(other, metadata=metadata).code() is DENIED
        web_net = pb.ObjectRequest(kind="network", ref="web_net")
        viewers = (("authorization", f"Bearer {viewer}"),)
        assert await stub.RemoveObject(web_net, metadata=viewers).code() is DENIED
        await stub.RemoveObject(web_net, metadata=metadata)
        assert await listed("dangling=true") == []


async def test_members_of_a_predefined_network_are_those_of_the_stacks(fleet: Identified) -> None:
    _, metadata = await _ci(fleet, "web")
    async with fleet.dial(fleet.guest) as channel:
        asked = pb.GetNetworkRequest(ref="bridge", verbose=True)
        parts = await _all(_users(channel).GetNetwork(asked, metadata=metadata))
        assert {one.name for part in parts for one in part.services} == {"web_main"}


async def test_events_of_a_removed_service_still_have_its_stack(fleet: Identified) -> None:
    _, metadata = await _ci(fleet, "web")
    async with fleet.dial(fleet.guest) as channel:
        call = _users(channel).Events(pb.EventsRequest(follow=True, since=1), metadata=metadata)
        async with fleet.as_root() as root:
            await _users(root).CreateService(_service("web_none", "web", replicas=0))
            await _users(root).RemoveService(pb.RemoveServiceRequest(ref="web_none"))
        async with asyncio.timeout(WAIT_S):
            async for part in call:
                if any(event.action == "remove" for event in part.events):
                    break
        call.cancel()


async def test_a_token_does_nothing_outside_its_stack(fleet: Identified) -> None:
    _, metadata = await _ci(fleet, "web")
    async with fleet.dial(fleet.guest) as channel:
        stub = _users(channel)
        for call in (
            stub.RemoveService(pb.RemoveServiceRequest(ref="db_main"), metadata=metadata),
            stub.CreateService(_service("db_more", "db"), metadata=metadata),
            stub.CreateService(_service("more", "plain"), metadata=metadata),
        ):
            assert await call.code() is DENIED
            assert 'user "ci" (operator, limited to stack web) may not' in await call.details()
        await stub.CreateService(_service("web_more", "web"), metadata=metadata)
        await stub.RemoveService(pb.RemoveServiceRequest(ref="web_more"), metadata=metadata)
    assert fleet.loop is not None
    names = {service.spec.name for service in fleet.loop.state.services.values()}
    assert names >= {"web_main", "db_main", "plain_main"}


async def test_a_change_is_checked_again_when_the_leader_makes_it(fleet: Identified) -> None:
    """The user is removed while its request waits for its turn."""
    _, metadata = await _ci(fleet, "web")
    loop = fleet.loop
    assert loop is not None
    submit = loop.submit

    async def late(mutation: Any, caller: Any, verb: str) -> Any:
        await submit(lambda state, now, ids: remove_object(state, USER, "ci", now), caller)
        return await submit(mutation, caller, verb)

    loop.submit = late  # type: ignore[method-assign, assignment]
    async with fleet.dial(fleet.guest) as channel:
        call = _users(channel).CreateService(_service("web_late", "web"), metadata=metadata)
        assert await call.code() is DENIED
        assert 'user "ci"' in await call.details()
    assert "web_late" not in loop.state.service_of_name


async def test_the_caller_travels_with_its_changes(fleet: Identified) -> None:
    user, metadata = await _ci(fleet, "web")
    loop = fleet.loop
    assert loop is not None
    submit, callers = loop.submit, []

    async def noted(mutation: Any, caller: Any, verb: str) -> Any:
        callers.append(caller)
        return await submit(mutation, caller, verb)

    loop.submit = noted  # type: ignore[method-assign, assignment]
    async with fleet.dial(fleet.guest) as channel, fleet.as_root() as root:
        await _users(channel).RemoveService(
            pb.RemoveServiceRequest(ref="web_main"), metadata=metadata
        )
        await _users(root).RemoveService(pb.RemoveServiceRequest(ref="db_main"))
    first, second = callers
    assert (first.kind, first.id, first.name) == ("user", user.id, "ci")
    assert (first.role, first.stacks, first.address) == (Role.OPERATOR, ("web",), "127.0.0.1")
    assert (second.kind, second.name, second.address) == ("root", "root", "socket")
