"""Logs, images and events through the API: merged, followed, and honest about what is missing."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.clock import Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Task
from pyswarm_core.specs import LogDriver
from pyswarm_core.states import NodeState, TaskState
from pyswarm_core.views import Event
from tests.fixtures import build
from tests.fixtures.desk import Answer
from tests.fixtures.parts import whole
from tests.integration.controller.conftest import Api

WEB = build.service("web", replicas=2)


def with_tasks(api: Api, *tasks: Task) -> None:
    api.desk.put(Writes(objects=(WEB,), tasks=list(tasks)))


def agent(logs: dict[str, Sequence[tuple[int, str]]]) -> Answer:
    """An agent whose tasks have written these lines at these times."""

    def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
        return [
            dp.TunnelFrame(
                log_lines=dp.LogLines(
                    lines=[
                        dp.LogLine(task_id=task_id, at=at, stream=1, text=text.encode())
                        for at, text in logs[task_id]
                    ]
                )
            )
            for task_id in request.logs.task_ids
            if logs.get(task_id)
        ]

    return answer


async def read_logs(api: Api, **request: object) -> tuple[list[str], list[str]]:
    lines, warnings = [], []
    async for reply in api.stub.Logs(pb.LogsRequest(**request)):  # type: ignore[arg-type]
        lines += [f"{reply.task_name.split('.')[1]} {line.text.decode()}" for line in reply.lines]
        warnings += [reply.warning] if reply.warning else []
    return lines, warnings


async def test_the_logs_of_all_tasks_are_merged_by_time(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a"), (2, "b"), (5, "e")]})
    api.desk.agents[NodeId("n2")] = agent({"web.2": [(3, "c"), (4, "d"), (6, "f")]})
    lines, warnings = await read_logs(api, ref="web", tail=-1)
    assert lines == ["1 a", "1 b", "2 c", "2 d", "1 e", "2 f"]
    assert warnings == []


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("ref", ["web", "web.1"])
async def test_lines_that_are_not_stored_are_refused_in_docker_s_words(
    api: Api, ref: str, follow: bool
) -> None:
    template = replace(WEB.spec.task_template, log_driver=LogDriver(name="none"))
    silent = replace(WEB, spec=replace(WEB.spec, task_template=template))
    with_tasks(api, build.task("web.1", node="n1"))
    api.desk.put(Writes(objects=(silent,)))
    with pytest.raises(grpc.RpcError) as refused:
        await read_logs(api, ref=ref, tail=-1, follow=follow)
    assert "configured logging driver does not support reading" in str(refused.value)


async def test_a_node_that_cannot_be_asked_costs_a_warning_only(api: Api) -> None:
    down = build.node("n3", state=NodeState.DOWN)
    api.desk.put(Writes(objects=(down,)))
    with_tasks(api, *(build.task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    lines, warnings = await read_logs(api, ref="web", tail=-1)
    assert lines == ["1 a"]
    assert sorted(warnings) == [
        "logs of node n2 are missing: node n2 has no session",
        "node n3 is down",
    ]


async def test_one_task_has_a_log_of_its_own(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n1"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")], "web.2": [(2, "b")]})
    assert (await read_logs(api, ref="web.2", tail=-1))[0] == ["2 b"]


async def test_following_takes_up_tasks_that_appear_and_ends_with_the_service(api: Api) -> None:
    first = build.task("web.1", node="n1")
    with_tasks(api, first)
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    api.desk.agents[NodeId("n2")] = agent({"web.2": [(2, "b")]})
    stream = api.stub.Logs(pb.LogsRequest(ref="web", follow=True, tail=-1)).__aiter__()
    assert (await anext(stream)).lines[0].text == b"a"
    second = build.task("web.2", node="n2")
    with_tasks(api, second)
    assert (await anext(stream)).lines[0].text == b"b"
    api.desk.put(Writes(removed_tasks=[first.id, second.id]))
    api.desk.put(Writes(removed=(SERVICE.object_name(WEB.id),)))
    async with asyncio.timeout(5):
        assert [reply async for reply in stream] == []


async def test_a_stream_that_broke_amid_lines_of_one_instant_is_taken_up_behind_the_last(
    api: Api,
) -> None:
    written = [(1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")]
    sent = [3, 3, 4, 5]

    def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame | None]:
        lines = [line for line in written[: sent.pop(0)] if line[0] >= request.logs.since]
        return [*agent({"web.1": lines})(request), *([None] if sent else [])]

    with_tasks(api, build.task("web.1", node="n1", state=TaskState.COMPLETE))
    api.desk.agents[NodeId("n1")] = answer
    async with asyncio.timeout(20):
        lines, _ = await read_logs(api, ref="web.1", follow=True, tail=-1)
    assert lines == ["1 a", "1 b", "1 c", "1 d", "1 e"]


async def test_a_followed_task_is_over_when_it_has_ended(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1", state=TaskState.COMPLETE))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    async with asyncio.timeout(5):
        assert (await read_logs(api, ref="web.1", follow=True, tail=-1))[0] == ["1 a"]


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
