"""Images and events through the API: followed, and honest about what is missing."""

import asyncio

import grpc
import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.clock import Instant
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import NodeId
from pyswarm_core.views import Event
from tests.fixtures import build
from tests.fixtures.parts import whole
from tests.integration.controller.conftest import Api


async def test_an_image_is_pulled_on_every_node_and_each_tells_its_end(api: Api) -> None:
    def pulls(request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
        assert request.image_pull.reference == "docker.io/library/web:1"
        return [dp.TunnelFrame(image_progress=dp.ImageProgress(status="done", done_bytes=5))]

    api.desk.agents[NodeId("n1")] = api.desk.agents[NodeId("n2")] = pulls
    ends = {}
    async for progress in api.stub.PullImage(pb.PullImageRequest(reference="web:1")):
        if progress.done:
            ends[progress.node_name] = progress.error or progress.progress.status
    assert ends == {"n1": "done", "n2": "done", "n3": "node n3 has no session"}


async def test_images_are_listed_by_node_and_filtered(api: Api) -> None:
    report = dp.ImageReport(
        images=[
            dp.Image(id="sha256:a", names=["docker.io/library/web:1"]),
            dp.Image(id="sha256:b", names=["docker.io/library/db:1"]),
        ]
    )
    api.desk.agents[NodeId("n1")] = lambda _: [dp.TunnelFrame(image_report=report)]
    request = pb.ListRequest(filters=["node=n1", "reference=web"])
    reply = await whole(pb.ListImagesReply, api.stub.ListImages(request))
    assert [(node.node_name, [i.id for i in node.images]) for node in reply.nodes] == [
        ("n1", ["sha256:a"])
    ]


async def test_an_image_that_no_node_has_is_not_found(api: Api) -> None:
    gone = dp.TunnelFrame(error=dp.TunnelError(kind="NotFound", message="no such image"))
    for name in ("n1", "n2", "n3"):
        api.desk.agents[NodeId(name)] = lambda _: [gone]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.stub.RemoveImage(pb.RefRequest(ref="web:1"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_events_are_told_from_memory_and_as_they_happen(api: Api) -> None:
    api.desk.events.record([Event.of("service.create", "id1", "web")], build.NOW, 1)
    api.desk.events.record([Event.of(EventKind.NODE_READY, "n1", "n1")], build.NOW, 1)
    request = pb.EventsRequest(filters=["type=service"])
    kept = await whole(pb.EventsReply, api.stub.Events(request))
    assert [event.name for event in kept.events] == ["web"]
    request = pb.EventsRequest(since=1, follow=True, until=build.NOW + 10**12)
    stream = api.stub.Events(request).__aiter__()
    assert [event.action for event in (await anext(stream)).events] == ["create", "ready"]
    later = Instant(build.NOW + 1)
    api.desk.events.record([Event.of(EventKind.SERVICE_REMOVED, "id1", "web")], later, 2)
    assert [event.action for event in (await anext(stream)).events] == ["remove"]


@pytest.mark.parametrize("since", [0, 1])
async def test_following_events_until_the_past_tells_those_kept_and_ends(
    api: Api, since: int
) -> None:
    for name, at in (("web", build.NOW - 2), ("db", build.NOW)):
        event = Event.of("service.create", name, name)
        api.desk.events.record([event], Instant(at), 1)
    request = pb.EventsRequest(since=since, follow=True, until=build.NOW - 1)
    told = await whole(pb.EventsReply, api.stub.Events(request))
    assert [event.name for event in told.events] == ["web"]


async def test_following_events_ends_at_until(api: Api) -> None:
    request = pb.EventsRequest(follow=True, until=build.NOW + 10**8)
    assert [part async for part in api.stub.Events(request)] == []


async def test_following_events_ends_when_leadership_is_lost(api: Api) -> None:
    stream = api.stub.Events(pb.EventsRequest(follow=True)).__aiter__()
    reading = asyncio.gather(anext(stream), return_exceptions=True)
    await asyncio.sleep(0.05)
    api.term.desk = None
    async with asyncio.timeout(5):
        (error,) = await reading
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_unknown_filter_is_refused_with_those_that_exist(api: Api) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await whole(
            pb.ListServicesReply, api.stub.ListServices(pb.ListRequest(filters=["colour=red"]))
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "id, label, mode, name" in (caught.value.details() or "")
