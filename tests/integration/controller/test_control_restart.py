"""RestartTask and a service's update over real gRPC: answers and refusals."""

from collections.abc import Awaitable

import grpc
import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.decision import Writes
from pyswarm_core.objects import UpdateStatus
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.integration.controller.conftest import Api


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_a_restarted_task_is_shut_down_and_named(api: Api) -> None:
    task = build.task("web.1", node="n1")
    api.desk.put(Writes(objects=(build.service("web"),), tasks=[task]))
    view = await api.stub.RestartTask(pb.RefRequest(ref="web.1"))
    assert (view.task.id, view.service_name) == (task.id, "web")
    assert api.desk.state.tasks[task.id].desired_state is TaskState.SHUTDOWN


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.SHUTDOWN])
async def test_a_task_that_ended_is_not_restarted(api: Api, state: TaskState) -> None:
    ended = build.task("web.1", task_id="t" * 25, state=state, desired=TaskState.SHUTDOWN)
    api.desk.put(Writes(objects=(build.service("web"),), tasks=[ended]))
    _, text = await refused(api.stub.RestartTask(pb.RefRequest(ref="t" * 25)))
    assert "web.1" in text
    code, _ = await refused(api.stub.RestartTask(pb.RefRequest(ref="nosuch.1")))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_service_that_is_updated_says_what_the_update_waits_for(api: Api) -> None:
    status = UpdateStatus(message="update in progress", to_version=2, slots=1)
    web = replace(build.service("web", version=2, template_version=2), update_status=status)
    task = build.task("web.1", node="n1", version=2, state=TaskState.PREPARING)
    api.desk.put(Writes(objects=(web,), tasks=[task]))
    got = await api.stub.GetService(pb.RefRequest(ref="web"))
    assert got.service.update_status.message == (
        "update in progress; it continues when web.1 (preparing) serves"
    )
