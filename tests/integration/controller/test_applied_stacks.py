"""ApplyStack, RollbackStack and RemoveStack over real gRPC."""

import asyncio
from collections.abc import Awaitable

import grpc
import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import stacks_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import STACK
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.spec import StackSpec
from tests.fixtures.stacks import payload, service, stack, with_service
from tests.integration.controller.conftest import Api

SHOP = stack(
    "shop",
    service("shop", "web", replicas=2),
    service("shop", "db", secret="password"),
    secrets=(payload("shop", "password", b"a secret of the house"),),
)


def request(spec: StackSpec, **more: object) -> stacks_pb2.ApplyStackRequest:
    made = ApplyStack(spec=spec, resolve_image="never", **more)  # type: ignore[arg-type]
    return to_proto(made, stacks_pb2.ApplyStackRequest())


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def told(reply: stacks_pb2.StackReply) -> dict[str, str]:
    return {one.name: one.action for one in reply.changes if one.action != "unchanged"}


async def test_a_stack_is_applied_changed_and_rolled_back(api: Api) -> None:
    reply = await api.stub.ApplyStack(request(SHOP))
    assert told(reply) == dict.fromkeys(
        ("shop_default", "shop_password", "shop_web", "shop_db"), "created"
    )
    assert not reply.stack.applying
    assert [one.id for one in reply.changes if one.kind == "service"]
    changed = with_service(SHOP, service("shop", "web", "web:2", replicas=2))
    assert told(await api.stub.ApplyStack(request(changed))) == {"shop_web": "replaced"}
    assert told(await api.stub.ApplyStack(request(changed))) == {}
    rolled = await api.stub.RollbackStack(stacks_pb2.RollbackStackRequest(ref="shop"))
    assert told(rolled) == {"shop_web": "replaced"}
    assert rolled.stack.spec_version == 3
    found = await api.stub.GetObject(pb.ObjectRequest(kind="stack", ref="shop"))
    assert STACK.decode(found.value).spec_version == 3
    assert b"house" not in found.value


async def test_a_plan_is_refused_once_it_is_outdated(api: Api) -> None:
    await api.stub.ApplyStack(request(SHOP))
    plan = await api.stub.ApplyStack(request(SHOP, dry_run=True))
    more = replace(SHOP, services=(*SHOP.services, service("shop", "cache")))
    await api.stub.ApplyStack(request(more))
    code, text = await refused(api.stub.ApplyStack(request(SHOP, revision=plan.revision)))
    assert code is grpc.StatusCode.ABORTED
    assert "changed between plan and apply" in text


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (request(replace(SHOP, name="a b")), "stack"),
        (request(SHOP, services=("shop_wep",)), "did you mean shop_web?"),
        (
            to_proto(ApplyStack(spec=SHOP, resolve_image="maybe"), stacks_pb2.ApplyStackRequest()),
            "expected one of always, changed, never",
        ),
    ],
)
async def test_bad_requests_are_refused(
    api: Api, asked: stacks_pb2.ApplyStackRequest, text: str
) -> None:
    code, details = await refused(api.stub.ApplyStack(asked))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in details
    assert not api.desk.state.services


async def test_a_caller_that_leaves_has_its_stack_applied(api: Api) -> None:
    call = api.stub.ApplyStack(request(SHOP))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    reply = await api.stub.ApplyStack(request(SHOP))
    assert not reply.stack.applying
    assert set(api.desk.state.service_of_name) == {"shop_web", "shop_db"}


async def test_a_removal_marks_the_services_at_once(api: Api) -> None:
    await api.stub.ApplyStack(request(SHOP))
    reply = await api.stub.RemoveStack(stacks_pb2.RemoveStackRequest(ref="shop"))
    assert told(reply) == dict.fromkeys(
        ("shop_default", "shop_password", "shop_web", "shop_db"), "removed"
    )
    assert all(one.removing for one in api.desk.state.services.values())
    code, text = await refused(api.stub.ApplyStack(request(SHOP)))
    assert code is grpc.StatusCode.ABORTED
    assert "is being removed" in text
