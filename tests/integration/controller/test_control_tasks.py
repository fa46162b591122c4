"""TaskChecks and SignalTask over real gRPC: which agent is asked, and what its answer means."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest
from msgspec.structs import replace

from controller.leader.tunnels import DIAL_TIMEOUT_S, Tunnels
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import HealthState
from pyswarm_core.specs import HealthConfig
from pyswarm_core.states import TaskState
from pyswarm_core.views import CheckResult, TaskCheck
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.integration.controller.conftest import Api

CHECK = TaskCheck(
    kind="health",
    config=HealthConfig(test=("CMD", "x"), interval=SECOND, retries=3),
    state=HealthState.HEALTHY,
    failing_streak=2,
    results=tuple(
        CheckResult(started_at=Instant(n), duration=5, exit_code=-1, output=f"o{n}")
        for n in range(5)
    ),
)
Frames = Sequence[dp.TunnelFrame | None]


def frame(*checks: TaskCheck) -> dp.TunnelFrame:
    return dp.TunnelFrame(
        task_checks=dp.TaskChecks(checks=[to_proto(check, dp.TaskCheck()) for check in checks])
    )


def prepare(api: Api, *frames: dp.TunnelFrame | None) -> list[dp.OpenTunnel]:
    """The tasks web.1 (runs on n2), web.2 (prepared on n2) and web.3 (waits); what n2 is asked."""
    asked: list[dp.OpenTunnel] = []
    tasks = [
        build.task("web.1", node="n2", state=TaskState.RUNNING),
        build.task("web.2", node="n2", state=TaskState.PREPARING),
        build.task("web.3", state=TaskState.PENDING),
    ]
    api.desk.put(Writes(objects=(build.service("web"),), tasks=tasks))

    def answer(request: dp.OpenTunnel) -> Frames:
        asked.append(request)
        return frames

    api.desk.agents[NodeId("n2")] = answer
    return asked


async def checks_of(api: Api, ref: str) -> list[TaskCheck]:
    reply = await api.stub.TaskChecks(pb.RefRequest(ref=ref))
    return [from_proto(TaskCheck, check) for check in reply.checks]


async def test_the_checks_of_a_task_are_its_agents(api: Api) -> None:
    asked = prepare(api, frame(CHECK))
    assert await checks_of(api, "web.1") == [CHECK]
    (request,) = asked
    assert request.task_checks.task_id == build.task("web.1").id


async def test_a_task_without_a_node_has_no_checks(api: Api) -> None:
    asked = prepare(api)
    assert await checks_of(api, "web.3") == []
    assert asked == []


async def test_an_agent_may_not_send_more_than_it_has(api: Api) -> None:
    many = replace(CHECK, results=CHECK.results * 10)
    prepare(api, frame(many, many, many))
    found = await checks_of(api, "web.1")
    assert [len(check.results) for check in found] == [5, 5]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([None], "connection was lost"),
        ([], "sent no answer"),
        (
            [dp.TunnelFrame(task_checks=dp.TaskChecks(checks=[dp.TaskCheck(state="x")]))],
            "not valid",
        ),
    ],
)
async def test_an_agent_that_sends_nothing_useful_is_unavailable(
    api: Api, frames: list[dp.TunnelFrame | None], words: str
) -> None:
    prepare(api, *frames)
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        await checks_of(api, "web.1")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_signal_is_passed_to_the_agent(api: Api) -> None:
    asked = prepare(api)
    await api.stub.SignalTask(pb.SignalTaskRequest(ref="web.1", signal="HUP"))
    await api.stub.SignalTask(pb.SignalTaskRequest(ref="web.1", stop=True))
    given = [(r.signal_task.signal, r.signal_task.stop) for r in asked]
    assert given == [("HUP", False), ("", True)]


async def test_an_agents_refusal_is_the_users_error(api: Api) -> None:
    error = dp.TunnelError(kind="Conflict", message="the task's process does not run")
    prepare(api, dp.TunnelFrame(error=error))
    with pytest.raises(grpc.aio.AioRpcError, match="process does not run"):
        await api.stub.SignalTask(pb.SignalTaskRequest(ref="web.1", signal="HUP"))


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (pb.SignalTaskRequest(ref="web.1", signal="SIGX"), "INVALID_ARGUMENT", "--signal.*SIGX"),
        (pb.SignalTaskRequest(ref="web.1"), "INVALID_ARGUMENT", "--signal"),
        (pb.SignalTaskRequest(ref="web.2", stop=True), "ABORTED", "it is preparing"),
        (pb.SignalTaskRequest(ref="web.9", stop=True), "NOT_FOUND", "no such task"),
    ],
)
async def test_bad_requests_ask_no_agent(
    api: Api, request_: pb.SignalTaskRequest, code: str, words: str
) -> None:
    asked = prepare(api)
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        await api.stub.SignalTask(request_)
    assert caught.value.code().name == code
    assert asked == []


async def test_a_caller_who_goes_away_leaves_no_tunnel_open(api: Api) -> None:
    prepare(api)
    asked = asyncio.Event()
    tunnels = api.desk.tunnels = Tunnels(Numbered(), lambda *_: asked.set())
    call = asyncio.create_task(checks_of(api, "web.1"))
    await asked.wait()
    assert len(tunnels) == 1
    call.cancel()
    async with asyncio.timeout(DIAL_TIMEOUT_S / 2):
        while len(tunnels):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
