"""Top, Changes, PauseContainer and WaitContainer over real gRPC."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest
from msgspec.structs import replace

from controller.api import sizes
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.api.v1 import files_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import NO_DETAIL, TaskDetail
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.integration.controller.conftest import Api
from tests.integration.controller.test_control_tasks import prepare

TOP = files_pb2.TopReply(titles=["PID"], rows=[files_pb2.TopRow(cells=["7"])])


def changes(*paths: str) -> dp.TunnelFrame:
    told = [files_pb2.FileChange(kind="A", path=path) for path in paths]
    return dp.TunnelFrame(changes=files_pb2.ChangesReply(changes=told))


async def changed(api: Api, ref: str) -> Sequence[str]:
    parts = [part async for part in api.stub.Changes(files_pb2.ChangesRequest(ref=ref))]
    return [change.path for part in parts for change in part.changes]


async def test_the_agent_of_the_task_lists_its_processes(api: Api) -> None:
    asked = prepare(api, dp.TunnelFrame(top=TOP))
    reply = await api.stub.Top(files_pb2.TopRequest(ref="web.1", options=["aux"]))
    assert reply == TOP
    (request,) = asked
    assert (request.top.ref, list(request.top.options)) == (build.task("web.1").id, ["aux"])


async def test_changes_come_in_parts(api: Api) -> None:
    prepare(api, changes("/a", "/b"), changes("/c"))
    assert await changed(api, "web.1") == ["/a", "/b", "/c"]


async def test_a_cut_list_of_changes_is_an_error(api: Api) -> None:
    prepare(api, changes("/a"), None)
    with pytest.raises(grpc.aio.AioRpcError, match="connection was lost"):
        await changed(api, "web.1")


async def test_a_pause_is_passed_to_the_agent_and_is_an_event(api: Api) -> None:
    asked = prepare(api)
    await api.stub.PauseContainer(pb.RefRequest(ref="web.1"))
    await api.stub.UnpauseContainer(pb.RefRequest(ref="web.1"))
    await api.stub.SignalTask(pb.SignalTaskRequest(ref="web.1", signal="HUP"))
    assert [request.pause.paused for request in asked][:2] == [True, False]
    events = [(event.kind, event.name, event.reason) for event in api.desk.events.kept()]
    assert events == [
        ("container.pause", "web.1", ""),
        ("container.unpause", "web.1", ""),
        ("container.kill", "web.1", "signal HUP"),
    ]


@pytest.mark.parametrize(
    ("ref", "code", "words"),
    [("web.2", "ABORTED", "does not run"), ("web.9", "NOT_FOUND", "No such container")],
)
async def test_a_container_that_does_not_run_is_refused(
    api: Api, ref: str, code: str, words: str
) -> None:
    asked = prepare(api)
    for call in (
        api.stub.Top(files_pb2.TopRequest(ref=ref)),
        api.stub.PauseContainer(pb.RefRequest(ref=ref)),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await call
        assert caught.value.code().name == code
    assert asked == []


async def waited(api: Api, ref: str) -> list[files_pb2.WaitReply]:
    return [reply async for reply in api.stub.WaitContainer(files_pb2.WaitRequest(ref=ref))]


async def watched(api: Api) -> None:
    """Return once somebody waits for the task."""
    async with asyncio.timeout(60):
        while not len(api.desk.watches):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def put(api: Api, state: TaskState, detail: TaskDetail = NO_DETAIL) -> None:
    task = replace(build.task("web.1", node="n2", state=state), detail=detail)
    api.desk.put(Writes(tasks=[task]))


async def test_a_wait_ends_with_the_container(api: Api) -> None:
    prepare(api)
    waiting = asyncio.create_task(waited(api, "web.1"))
    await watched(api)
    assert not waiting.done()
    put(api, TaskState.FAILED, TaskDetail(exit_code=7, error="non-zero exit (7)"))
    (reply,) = await waiting
    assert (reply.exit_code, reply.error) == (7, "non-zero exit (7)")


async def test_the_exit_code_of_an_ended_container_is_known_at_once(api: Api) -> None:
    prepare(api)
    put(api, TaskState.COMPLETE)
    (reply,) = await waited(api, "web.1")
    assert reply.exit_code == 0


async def test_a_container_that_is_removed_meanwhile_ends_the_wait(api: Api) -> None:
    prepare(api)
    waiting = asyncio.create_task(waited(api, "web.1"))
    await watched(api)
    api.desk.put(Writes(removed_tasks=[build.task("web.1").id]))
    with pytest.raises(grpc.aio.AioRpcError, match="was removed"):
        await waiting


def measured(*found: tuple[str, int, int]) -> dp.TunnelFrame:
    sizes = [
        files_pb2.ContainerSize(task_id=task_id, written_bytes=written, image_bytes=image)
        for task_id, written, image in found
    ]
    return dp.TunnelFrame(sizes=files_pb2.SizesReply(sizes=sizes))


async def sizes_of(api: Api) -> tuple[dict[str, tuple[int, int]], list[str]]:
    request = cp.ListContainersRequest(all=True, size=True)
    whole = cp.ListContainersReply()
    async for part in api.stub.ListContainers(request):
        whole.MergeFrom(part)
    found = {one.task_id: (one.size_rw, one.size_root_fs) for one in whole.containers}
    return found, list(whole.warnings)


async def test_nodes_measure_their_containers_of_a_list_with_sizes(api: Api) -> None:
    first, second, third = (build.task(f"web.{number}").id for number in (1, 2, 3))
    asked = prepare(api, measured((first, 10, 100)), measured(("db.1", 7, 7)))
    found, warnings = await sizes_of(api)
    assert found == {first: (10, 110), second: (0, 0), third: (0, 0)}
    assert warnings == []
    assert sorted(asked[0].sizes.task_ids) == sorted([first, second])


@pytest.mark.parametrize("sent", [(-1, 100), (1 << 62, 1), (1, -1)])
async def test_what_a_node_cannot_measure_is_unknown(sent: tuple[int, int], api: Api) -> None:
    first = build.task("web.1").id
    prepare(api, measured((first, *sent)))
    found, warnings = await sizes_of(api)
    assert found[first] == (-1, -1)
    assert warnings == []


async def test_a_node_that_does_not_measure_costs_a_warning(api: Api) -> None:
    first, second, third = (build.task(f"web.{number}").id for number in (1, 2, 3))
    prepare(api, measured((first, 10, 100)), None)
    found, warnings = await sizes_of(api)
    assert found == {first: (10, 110), second: (-1, -1), third: (0, 0)}
    (warning,) = warnings
    assert warning.startswith("sizes of node n2 are missing: ")
    node = api.desk.state.nodes[NodeId("n2")]
    down = replace(node, status=replace(node.status, state=NodeState.DOWN))
    api.desk.put(Writes(objects=(down,)))
    found, warnings = await sizes_of(api)
    assert found[first] == (-1, -1)
    assert warnings == ["sizes of node n2 are missing: it is down"]


async def test_a_node_measures_for_a_bounded_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(api)
    monkeypatch.setattr(sizes, "SIZES_TIMEOUT_S", 0)
    found, warnings = await sizes_of(api)
    assert found[build.task("web.1").id] == (-1, -1)
    assert warnings == ["sizes of node n2 are missing: it measures for over 0 s"]
