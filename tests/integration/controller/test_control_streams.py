"""Images and events through the API: followed, and honest about what is missing."""

import asyncio
from typing import Any

import grpc
import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.api.v1 import images_pb2
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


def listing(*images: dp.Image) -> dp.TunnelFrame:
    return dp.TunnelFrame(image_report=dp.ImageReport(images=images))


async def test_an_image_that_no_node_has_is_not_found(api: Api) -> None:
    for name in ("n1", "n2", "n3"):
        api.desk.agents[NodeId(name)] = lambda _: [listing()]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.stub.RemoveImage(images_pb2.RemoveImageRequest(ref="web:1"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_image_is_removed_where_it_is_and_inspected_with_its_nodes(api: Api) -> None:
    asked: dict[str, dp.OpenTunnel] = {}
    image = dp.Image(id="a1a1", names=["docker.io/library/web:1"], labels={"a": "1"})

    def agent(name: str) -> Any:
        def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
            kind = request.WhichOneof("kind")
            if kind == "image_list":
                return [listing(image)] if name != "n3" else [listing()]
            if kind == "image_details":
                assert request.image_details.ref == "a1a1"
                details = images_pb2.ImageDetails(config=b"{}", layer_sizes=[5])
                return [dp.TunnelFrame(image_details=details)]
            asked[name] = request
            told = images_pb2.ImageDeleted(id="a1a1", deleted=True, reclaimed_bytes=5)
            return [dp.TunnelFrame(image_deleted=told)]

        return answer

    for name in ("n1", "n2", "n3"):
        api.desk.agents[NodeId(name)] = agent(name)
    found = await api.stub.InspectImage(images_pb2.ImageRef(ref="a1a1"))
    assert (found.details.config, list(found.details.layer_sizes)) == (b"{}", [5])
    assert (list(found.nodes), found.id) == (["n1", "n2"], "a1a1")
    reply = await api.stub.RemoveImage(images_pb2.RemoveImageRequest(ref="web:1"))
    assert [(one.node_name, one.images[0].deleted) for one in reply.nodes] == [
        ("n1", True),
        ("n2", True),
    ]
    assert [one.id for one in asked["n1"].image_delete.images] == ["a1a1"]
    assert sorted(asked) == ["n1", "n2"]
    asked.clear()
    nodes = [images_pb2.NodeImageIds(node=name, ids=["a1a1", "a1a1"]) for name in ("n1", "n2")]
    nodes.append(images_pb2.NodeImageIds(node="n3"))
    request = images_pb2.PruneImagesRequest(nodes=nodes)
    gone = [one async for one in api.stub.PruneImages(request)]
    assert sum(image.reclaimed_bytes for one in gone for image in one.images) == 10
    assert {one.node_name: len(one.images) for one in gone} == {"n1": 1, "n2": 1, "n3": 0}
    assert asked["n1"].image_delete.unneeded
    assert [one.id for one in asked["n1"].image_delete.images] == ["a1a1"]
    assert sorted(asked) == ["n1", "n2"]
    request.nodes.add(node="none")
    with pytest.raises(grpc.aio.AioRpcError, match="none"):
        await api.stub.PruneImages(request).read()


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
    async with asyncio.timeout(60):
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
