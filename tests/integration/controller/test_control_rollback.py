"""RollbackService over real gRPC: what returns, and every refusal."""

from collections.abc import Awaitable

import grpc
import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import objects_pb2, specs_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.objects import Service
from tests.fixtures import build
from tests.integration.controller.conftest import Api


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def changed(api: Api, *tiers: str) -> Service:
    """A service with a label of each value in turn, so with as many versions of its spec."""
    first, *others = tiers
    spec = replace(build.service("web").spec, labels={"tier": first})
    reply = await api.stub.CreateService(
        pb.CreateServiceRequest(spec=to_proto(spec, specs_pb2.ServiceSpec()))
    )
    for tier in others:
        message = to_proto(replace(spec, labels={"tier": tier}), specs_pb2.ServiceSpec())
        request = pb.UpdateServiceRequest(ref="web", version=reply.service.version, spec=message)
        reply = await api.stub.UpdateService(request)
    return from_proto(Service, reply.service)


@pytest.mark.parametrize(("to", "tier"), [(0, "b"), (2, "b"), (1, "a")])
async def test_a_rollback_makes_an_earlier_spec_the_newest(api: Api, to: int, tier: str) -> None:
    service = await changed(api, "a", "b", "c")
    request = pb.RollbackServiceRequest(ref="web", to=to)
    request.version.index = service.version.index
    rolled = from_proto(Service, (await api.stub.RollbackService(request)).service)
    assert (rolled.spec.labels["tier"], rolled.spec_version) == (tier, 4)
    assert [one.version for one in rolled.previous_specs] == [3, 2, 1]


async def test_a_second_rollback_returns_to_the_spec_before_the_first(api: Api) -> None:
    await changed(api, "a", "b")
    for tier in ("a", "b"):
        reply = await api.stub.RollbackService(pb.RollbackServiceRequest(ref="web"))
        assert reply.service.spec.labels["tier"] == tier


async def test_a_service_that_never_changed_has_nothing_to_return_to(api: Api) -> None:
    await changed(api, "a")
    code, text = await refused(api.stub.RollbackService(pb.RollbackServiceRequest(ref="web")))
    assert code is grpc.StatusCode.ABORTED
    assert "web" in text
    assert "previous" in text


@pytest.mark.parametrize("to", [3, 9, 2**63])
async def test_a_version_that_is_not_kept_is_named_with_those_that_are(api: Api, to: int) -> None:
    await changed(api, "a", "b", "c")
    request = pb.RollbackServiceRequest(ref="web", to=to)
    _, text = await refused(api.stub.RollbackService(request))
    assert str(to) in text
    assert "1" in text


async def test_a_rollback_of_a_service_that_changed_since_is_refused(api: Api) -> None:
    await changed(api, "a", "b")
    request = pb.RollbackServiceRequest(ref="web", version=objects_pb2.Version(index=1))
    code, text = await refused(api.stub.RollbackService(request))
    assert code is grpc.StatusCode.ABORTED
    assert "out of sequence" in text
    assert (await refused(api.stub.RollbackService(pb.RollbackServiceRequest(ref="nosuch"))))[
        0
    ] is (grpc.StatusCode.NOT_FOUND)
