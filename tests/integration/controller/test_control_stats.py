"""Stats through the API: sampled by every node, and honest about what is missing."""

import asyncio
from collections.abc import Mapping, Sequence

import grpc
import pytest

from controller.api.stats import gather
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.api.v1 import stats_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import STATS_NODES_MAX
from pyswarm_core.objects import Task
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.desk import Answer
from tests.integration.controller.conftest import Api

WEB = build.service("web", replicas=3)
DB = build.service("db")


def with_tasks(api: Api, *tasks: Task) -> None:
    api.desk.put(Writes(objects=(WEB, DB), tasks=list(tasks)))


def agent(tasks: Mapping[str, int], asked: list[stats_pb2.StatsOptions] | None = None) -> Answer:
    """An agent whose containers have these numbers of processes; it sends two samples."""

    def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
        if asked is not None:
            asked.append(request.stats)
        return [
            dp.TunnelFrame(
                stats=stats_pb2.StatsSample(
                    tasks=[
                        stats_pb2.TaskStats(task_id=task_id, at=at, pids=pids)
                        for task_id, pids in tasks.items()
                    ]
                )
            )
            for at in (1, 2)
        ]

    return answer


async def read(api: Api, **request: object) -> tuple[list[tuple[str, str, int, int]], list[str]]:
    """Every reading as (node, task, its instant, its processes), in order; and the warnings."""
    found, warnings = [], []
    async with asyncio.timeout(60):
        async for reply in api.stub.Stats(stats_pb2.StatsRequest(**request)):  # type: ignore[arg-type]
            found += [
                (one.node_name, one.name, one.stats.at, one.stats.pids) for one in reply.tasks
            ]
            warnings += [reply.warning] if reply.warning else []
    return sorted(found), warnings


async def test_every_node_sends_two_samples(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    asked: list[stats_pb2.StatsOptions] = []
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1}, asked)
    api.desk.agents[NodeId("n2")] = agent({"web.2": 2}, asked)
    found, warnings = await read(api)
    assert found == [
        ("n1", "web.1", 1, 1), ("n1", "web.1", 2, 1), ("n2", "web.2", 1, 2), ("n2", "web.2", 2, 2)
    ]  # fmt: skip
    assert warnings == []
    options = stats_pb2.StatsOptions(period=1_000_000_000, samples=2)
    assert asked == [options, options]


async def test_only_what_is_named_is_asked_for_and_shown(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("db.1", node="n1"))
    asked: list[stats_pb2.StatsOptions] = []
    # An old agent might send more than was asked for.
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1, "db.1": 2}, asked)
    found, _ = await read(api, refs=["web"])
    assert {name for _, name, _, _ in found} == {"web.1"}
    found, _ = await read(api, refs=["db.1"])
    assert {name for _, name, _, _ in found} == {"db.1"}
    assert [(list(one.service_ids), list(one.task_ids)) for one in asked] == [
        (["web"], []),
        ([], ["db.1"]),
    ]


async def test_a_container_has_the_id_of_its_service_and_a_task_its_own(api: Api) -> None:
    objects = (build.service("web"), build.container("box"))
    tasks = [build.task(f"{name}.1", node="n1", task_id=f"t-{name}") for name in ("web", "box")]
    api.desk.put(Writes(objects=objects, tasks=tasks))
    api.desk.agents[NodeId("n1")] = agent({"t-web": 1, "t-box": 1})
    ids = set[tuple[str, str]]()
    async with asyncio.timeout(60):
        async for reply in api.stub.Stats(stats_pb2.StatsRequest()):
            ids |= {(one.stats.task_id, one.container_id) for one in reply.tasks}
    assert ids == {("t-web", "t-web"), ("t-box", "box")}


async def test_an_agent_speaks_for_its_own_tasks_only(api: Api) -> None:
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1, "web.2": 9, "nosuch": 9})
    api.desk.agents[NodeId("n2")] = agent({})
    found, _ = await read(api)
    assert {(node, name) for node, name, _, _ in found} == {("n1", "web.1")}


async def test_a_node_that_cannot_be_asked_costs_a_warning_only(api: Api) -> None:
    api.desk.put(Writes(objects=(build.node("n3", state=NodeState.DOWN),)))
    with_tasks(api, *(build.task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)))
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1})
    found, warnings = await read(api)
    assert len(found) == 2
    assert sorted(warnings) == [
        "stats of node n2 are missing: node n2 has no session",
        "stats of node n3 are missing: it is down",
    ]


async def test_tasks_that_do_not_run_are_listed_on_request(api: Api) -> None:
    ended = build.task("web.2", node="n2", state=TaskState.FAILED)
    with_tasks(api, build.task("web.1", node="n1"), ended)
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1})
    found, _ = await read(api, all=True)
    assert ("n2", "web.2", 0, 0) in found
    assert len(found) == 3
    found, _ = await read(api)
    assert len(found) == 2


async def test_following_takes_up_nodes_that_appear_and_warns_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "LOOK_FOR_NODES_EVERY_S", 0.02)
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    asked: list[stats_pb2.StatsOptions] = []
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1}, asked)
    stream = api.stub.Stats(stats_pb2.StatsRequest(refs=["web"], follow=True)).__aiter__()
    warnings = []

    async def until_from(node: str) -> Sequence[str]:
        while True:
            reply = await anext(stream)
            warnings.extend([reply.warning] if reply.warning else [])
            if reply.node_name == node and reply.tasks:
                return [one.name for one in reply.tasks]

    async with asyncio.timeout(60):
        assert await until_from("n1") == ["web.1"]
        assert asked[0].samples == 0
        # Agents here end their streams after two samples: they are asked again.
        for _ in range(20):
            await until_from("n1")
        assert warnings == ["stats of node n2 are missing: node n2 has no session"]
        api.desk.agents[NodeId("n2")] = agent({"web.2": 2})
        assert await until_from("n2") == ["web.2"]
        with_tasks(api, build.task("web.3", node="n3"))
        api.desk.agents[NodeId("n3")] = agent({"web.3": 3})
        assert await until_from("n3") == ["web.3"]


async def test_a_node_whose_last_task_ended_is_followed_no_more(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "LOOK_FOR_NODES_EVERY_S", 0.02)
    with_tasks(api, build.task("web.1", node="n1"), build.task("db.1", node="n2"))
    asked: list[stats_pb2.StatsOptions] = []
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1}, asked)
    api.desk.agents[NodeId("n2")] = agent({"db.1": 1})
    stream = api.stub.Stats(stats_pb2.StatsRequest(follow=True)).__aiter__()
    last: dict[str, int] = {}

    async def until_from(node: str, tasks: int) -> None:
        while last.get(node) != tasks:
            reply = await anext(stream)
            last[reply.node_name] = len(reply.tasks)

    async with asyncio.timeout(60):
        await until_from("n1", 1)
        with_tasks(api, build.task("web.1", node="n1", state=TaskState.COMPLETE))
        await until_from("n1", 0)
        for _ in range(5):  # its agent may have been asked once more meanwhile
            last.clear()
            await until_from("n2", 1)
        before = len(asked)
        for _ in range(20):
            last.clear()
            await until_from("n2", 1)
            assert "n1" not in last
    assert len(asked) == before


async def test_following_ends_when_leadership_is_lost(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "LOOK_FOR_NODES_EVERY_S", 0.02)
    with_tasks(api, build.task("web.1", node="n1"))
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1})
    call = api.stub.Stats(stats_pb2.StatsRequest(follow=True))
    await anext(call.__aiter__())
    api.term.desk = None

    async def read_on() -> None:
        async for _ in call:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(read_on(), 60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_unknown_name_is_refused(api: Api) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(api, refs=["nosuch"])
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_nodes_of_one_stream_are_bounded(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STATS_NODES_MAX == 256
    monkeypatch.setattr(gather, "STATS_NODES_MAX", 1)
    with_tasks(api, build.task("web.1", node="n1"), build.task("web.2", node="n2"))
    asked: list[stats_pb2.StatsOptions] = []
    api.desk.agents[NodeId("n1")] = agent({"web.1": 1}, asked)
    api.desk.agents[NodeId("n2")] = agent({"web.2": 2}, asked)
    stream = api.stub.Stats(stats_pb2.StatsRequest(follow=True)).__aiter__()
    async with asyncio.timeout(60):
        assert (await anext(stream)).warning == (
            "2 nodes have such tasks: 1 of them are shown: name services or tasks"
        )
        assert (await anext(stream)).tasks
    assert len(asked) == 1


async def test_a_caller_is_told_at_once_that_nothing_runs(api: Api) -> None:
    stream = api.stub.Stats(stats_pb2.StatsRequest(follow=True)).__aiter__()
    async with asyncio.timeout(60):
        assert await anext(stream) == stats_pb2.StatsReply()
