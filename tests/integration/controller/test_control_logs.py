"""Logs through the API: merged, filtered, followed, resumed, and honest about what is missing."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import grpc
import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.clock import SECOND
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import PreviousSpec, Task
from pyswarm_core.specs import ContainerMode, LogDriver
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.desk import Answer
from tests.integration.controller.conftest import Api

WEB = build.service("web", replicas=2)
Written = Sequence[tuple[int, str]]


def with_tasks(api: Api, *tasks: Task) -> None:
    api.desk.put(Writes(objects=(WEB,), tasks=list(tasks)))


def agent(logs: Mapping[str, Written], *, requests: list[dp.LogsOptions] | None = None) -> Answer:
    """An agent whose tasks have written these lines at these times. Positions are numbers of lines;
    only every second frame has one.
    """

    def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
        options = request.read_logs
        if requests is not None:
            requests.append(options)
        frames = []
        for task_id, place in zip_longest(options.task_ids, options.places):
            lines = logs.get(task_id, ())
            start, skip = 0, 0
            if place is not None:
                start, skip = int(place.position or b"0"), place.lines
            elif options.tail >= 0:
                start = len(lines) - min(options.tail, len(lines))
            frames.append(dp.LogLines(task_id=task_id, position=b"%d" % (start + skip)))
            for number in range(start + skip, len(lines)):
                at, text = lines[number]
                frame = dp.LogLines(task_id=task_id, at=[at], marks=b"\0", texts=[text.encode()])
                frame.position = b"%d" % (number + 1) if number % 2 else b""
                frames.append(frame)
        return [dp.TunnelFrame(log_lines=frame) for frame in frames]

    return answer


def texts(reply: pb.LogsReply) -> list[str]:
    """The lines, each with the slot of its task in front."""
    indexes = reply.source_of or [0] * len(reply.lines.texts)
    return [
        f"{reply.sources[index].task_name.split('.')[1]} {text.decode()}"
        for index, text in zip(indexes, reply.lines.texts, strict=True)
    ]


async def read_logs(api: Api, **request: object) -> tuple[list[str], list[str]]:
    lines, warnings = [], []
    async with asyncio.timeout(60):
        async for reply in api.stub.Logs(pb.LogsRequest(**request)):  # type: ignore[arg-type]
            lines += texts(reply)
            warnings += [reply.warning] if reply.warning else []
    return lines, warnings


async def refused(api: Api, **request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_logs(api, **request)
    return caught.value.code(), caught.value.details() or ""


async def test_the_logs_of_all_tasks_are_merged_by_time(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a"), (2, "b"), (5, "e")]})
    api.desk.agents[NodeId("n2")] = agent({"web.2": [(3, "c"), (4, "d"), (6, "f")]})
    for follow in (False, True):
        request = pb.LogsRequest(ref="web", tail=-1, follow=follow)
        stream = api.stub.Logs(request).__aiter__()
        lines: list[str] = []
        while len(lines) < 6:
            lines += texts(await anext(stream))
        assert lines == ["1 a", "1 b", "2 c", "2 d", "1 e", "2 f"]


async def test_a_node_that_cannot_be_asked_costs_a_warning_only(api: Api) -> None:
    down = build.node("n3", state=NodeState.DOWN)
    api.desk.put(Writes(objects=(down,)))
    with_tasks(api, *(build.task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    lines, warnings = await read_logs(api, ref="web", tail=-1)
    assert lines == ["1 a"]
    assert sorted(warnings) == [
        "logs of node n2 are missing: node n2 has no session",
        "logs of node n3 are missing: it is down",
    ]


async def test_if_no_node_can_be_asked_that_is_an_error(api: Api) -> None:
    api.desk.put(Writes(objects=(build.node("n3", state=NodeState.DOWN),)))
    with_tasks(api, build.task("web.1", node="n3"))
    assert await refused(api, ref="web", tail=-1) == (
        grpc.StatusCode.UNAVAILABLE,
        "logs of node n3 are missing: it is down",
    )


async def test_one_task_has_a_log_of_its_own(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n1"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")], "web.2": [(2, "b")]})
    assert (await read_logs(api, ref="web.2", tail=-1))[0] == ["2 b"]


async def test_filters_reach_the_agent(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"))
    requests: list[dp.LogsOptions] = []
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]}, requests=requests)
    await read_logs(api, ref="web", tail=7, since=1, until=5, grep="a|b")
    (got,) = requests
    assert (got.tail, got.since, got.until, got.grep, got.follow) == (7, 1, 5, "a|b", False)
    assert list(got.places) == []


async def test_a_pattern_that_is_not_valid_is_refused_before_any_agent_is_asked(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"))
    requests: list[dp.LogsOptions] = []
    api.desk.agents[NodeId("n1")] = agent({}, requests=requests)
    code, error = await refused(api, ref="web", tail=-1, grep="(")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.startswith('--grep: value "(" is not valid: expected a regular expression of RE2')
    assert requests == []


async def test_lines_of_an_agent_that_do_not_fit_together_are_its_error(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"))
    wrong = dp.TunnelFrame(log_lines=dp.LogLines(at=[1, 2], marks=b"\0", texts=[b"a"]))
    api.desk.agents[NodeId("n1")] = lambda _: [wrong]
    lines, warnings = await read_logs(api, ref="web", tail=-1)
    assert (lines, warnings) == (
        [],
        ["logs of node n1 are missing: the agent sent lines without their times or marks"],
    )


async def test_the_first_part_says_whether_the_ref_is_a_service(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"))
    db = build.service("db")
    db = replace(db, spec=replace(db.spec, mode=ContainerMode()))
    api.desk.put(Writes(objects=(db,), tasks=[build.task("db.1", node="n1")]))
    api.desk.agents[NodeId("n1")] = agent({"db.1": [(1, "a")]})
    for ref, is_service in (("web", True), ("web.1", False), ("db", False), ("db.1", False)):
        request = pb.LogsRequest(ref=ref, tail=-1, container=True)
        first, *rest = [reply async for reply in api.stub.Logs(request)]
        assert first.of_service == is_service
        assert [text for reply in rest for text in texts(reply)] == ["db a"] * ref.startswith("db")


async def test_what_does_not_exist_is_named_as_docker_names_it(api: Api) -> None:
    assert await refused(api, ref="nothing", tail=-1, container=True) == (
        grpc.StatusCode.NOT_FOUND,
        "No such container: nothing: `pyswarm ps --all` lists all containers",
    )
    assert await refused(api, ref="nothing", tail=-1) == (
        grpc.StatusCode.NOT_FOUND,
        'no such service or task: "nothing"',
    )


async def test_previous_is_the_task_before_the_newest_of_each_slot(api: Api) -> None:
    ended = TaskState.FAILED
    with_tasks(
        api,
        build.task("web.1", task_id="a1", node="n1", state=ended, created=1),
        build.task("web.1", task_id="a2", node="n1", state=ended, created=2),
        build.task("web.1", task_id="a3", node="n1", created=3),
        build.task("web.2", task_id="b1", node="n1", created=1),
    )
    written = {name: [(1, name)] for name in ("a1", "a2", "a3", "b1")}
    api.desk.agents[NodeId("n1")] = agent(written)
    for ref in ("web", "web.1", "a3"):
        assert (await read_logs(api, ref=ref, tail=-1, previous=True))[0] == ["1 a2"]
    assert (await read_logs(api, ref="a2", tail=-1, previous=True))[0] == ["1 a1"]
    for ref, name in (("web.2", "web.2"), ("a1", "web.1")):
        assert await refused(api, ref=ref, tail=-1, previous=True) == (
            grpc.StatusCode.NOT_FOUND,
            f'no previous container of "{name}": it was never restarted or replaced',
        )
    code, _ = await refused(api, ref="web", tail=-1, previous=True, follow=True)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_following_takes_up_tasks_that_appear_and_ends_with_the_service(api: Api) -> None:
    first = build.task("web.1", node="n1")
    with_tasks(api, first)
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    api.desk.agents[NodeId("n2")] = agent({"web.2": [(2, "b"), (3, "c")]})
    stream = api.stub.Logs(pb.LogsRequest(ref="web", follow=True, tail=1)).__aiter__()
    assert (await anext(stream)).of_service
    assert texts(await anext(stream)) == ["1 a"]
    second = build.task("web.2", node="n2")
    with_tasks(api, second)
    # Of a task that appears all lines.
    assert [texts(await anext(stream)) for _ in "bc"] == [["2 b"], ["2 c"]]
    api.desk.put(Writes(removed_tasks=[first.id, second.id]))
    api.desk.put(Writes(removed=(SERVICE.object_name(WEB.id),)))
    async with asyncio.timeout(60):
        assert [reply async for reply in stream] == []


async def test_a_stream_that_broke_is_resumed_after_its_last_line(api: Api) -> None:
    written = [(1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")]
    sent = [3, 3, 4, 5]

    def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame | None]:
        frames = agent({"web.1": written[: sent.pop(0)]})(request)
        return [*frames, *([None] if sent else [])]

    with_tasks(api, build.task("web.1", node="n1", state=TaskState.COMPLETE))
    api.desk.agents[NodeId("n1")] = answer
    lines, warnings = await read_logs(api, ref="web.1", follow=True, tail=-1)
    assert lines == ["1 a", "1 b", "1 c", "1 d", "1 e"]
    # Each break is told, that of the first reading too.
    assert warnings == ["logs of node n1 are missing: the agent's connection was lost"] * 3


async def test_a_follower_without_a_line_yet_is_resumed_where_it_began(api: Api) -> None:
    old, new = [(1, "old")], [(1, "old"), (2, "new")]
    answers = [agent({"web.1": old}), None, agent({"web.1": new})]

    def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame | None]:
        found = answers.pop(0)
        return [None] if found is None else [*found(request)]

    with_tasks(api, build.task("web.1", node="n1", state=TaskState.COMPLETE))
    api.desk.agents[NodeId("n1")] = answer
    lines, _ = await read_logs(api, ref="web.1", follow=True, tail=0)
    assert lines == ["1 new"]


async def test_the_tail_of_a_node_that_comes_back_is_no_more_than_was_asked_for(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    stream = api.stub.Logs(pb.LogsRequest(ref="web", follow=True, tail=1)).__aiter__()
    await anext(stream)
    assert texts(await anext(stream)) == ["1 a"]
    assert (await anext(stream)).warning == "logs of node n2 are missing: node n2 has no session"
    api.desk.agents[NodeId("n2")] = agent({"web.2": [(1, "b"), (2, "c")]})
    async with asyncio.timeout(60):
        assert texts(await anext(stream)) == ["2 c"]


async def test_following_ends_at_until(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    until = build.NOW + SECOND // 2
    assert await read_logs(api, ref="web", follow=True, tail=-1, until=until) == (["1 a"], [])


async def test_a_followed_task_is_over_when_it_has_ended(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1", state=TaskState.COMPLETE))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    assert (await read_logs(api, ref="web.1", follow=True, tail=-1))[0] == ["1 a"]


async def test_a_node_at_its_limit_of_readers_is_told(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"))
    text = "256 readers read logs of this node already, which is the limit"
    error = dp.TunnelError(kind="Exhausted", message=text)
    api.desk.agents[NodeId("n1")] = lambda _: [dp.TunnelFrame(error=error)]
    code, details = await refused(api, ref="web", follow=True, tail=-1)
    assert (code, details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"logs of node n1 are missing: {text}",
    )


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


async def test_details_are_the_attributes_that_the_options_name(api: Api) -> None:
    container = replace(
        WEB.spec.task_template.container_spec, env=("A=1", "B=2"), labels={"l": "x y"}
    )
    driver = LogDriver(options={"labels": "l", "env": "B,C", "tag": "{{.Name}}"})
    template = replace(WEB.spec.task_template, container_spec=container, log_driver=driver)
    with_tasks(api, build.task("web.1", node="n1"))
    api.desk.put(Writes(objects=(replace(WEB, spec=replace(WEB.spec, task_template=template)),)))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")]})
    for requested, expected in ((True, "B=2,l=x+y,tag=web.1.web.1"), (False, "")):
        request = pb.LogsRequest(ref="web", tail=-1, details=requested)
        parts = [part async for part in api.stub.Logs(request)]
        (source,) = [source for part in parts for source in part.sources]
        assert source.details == expected


@pytest.mark.parametrize("follow", [False, True])
async def test_lines_stored_before_the_driver_became_none_are_read_with_a_warning(
    api: Api, follow: bool
) -> None:
    template = replace(WEB.spec.task_template, log_driver=LogDriver(name="none"))
    silent = replace(
        WEB,
        spec=replace(WEB.spec, task_template=template),
        spec_version=2,
        template_version=2,
        previous_specs=(PreviousSpec(version=1, spec=WEB.spec),),
    )
    ended = TaskState.COMPLETE
    old = build.task("web.1", node="n1", state=ended, desired=TaskState.SHUTDOWN)
    new = build.task("web.2", node="n1", version=2, state=ended, desired=TaskState.SHUTDOWN)
    with_tasks(api, old, new)
    api.desk.put(Writes(objects=(silent,)))
    api.desk.agents[NodeId("n1")] = agent({"web.1": [(1, "a")], "web.2": [(1, "b")]})
    until = 1 if follow else 0
    lines, warnings = await read_logs(api, ref="web", tail=-1, follow=follow, until=until)
    assert lines == ["1 a"]
    assert warnings == [
        "logs of some tasks are missing: configured logging driver does not support reading"
    ]
