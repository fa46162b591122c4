"""One caller with the most streams of every kind that it may have: another one is answered at once.

The calls are real; who makes one is what its metadata says. The agents serve what they have to, and
long streams do not end.
"""

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from controller.grpc import admission
from controller.grpc.tunnels import GrpcTunnel
from controller.leader.tunnels import Tunnels
from pyswarm_core.aio.system import RandomIds
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.api.v1 import files_pb2, stats_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from tests.fixtures import build
from tests.integration.controller.conftest import Api

ANN, BOB = (("as", "ann"),), (("as", "bob"),)
TOP = files_pb2.TopReply(titles=["PID"], rows=[files_pb2.TopRow(cells=["1"])])
PATIENCE_S = 60.0


class _AgentCall:
    """An agent's Tunnel call: its frames, then the end, if there is one."""

    def __init__(self, request: dp.OpenTunnel) -> None:
        kind = request.WhichOneof("kind")
        self._frames = [dp.TunnelFrame(end=dp.TunnelEnd())]
        if kind == "top":
            self._frames.insert(0, dp.TunnelFrame(top=TOP))
        if kind == "stats":
            one = stats_pb2.TaskStats(task_id=build.task("web.1").id, at=1, pids=7)
            sample = dp.TunnelFrame(stats=stats_pb2.StatsSample(tasks=[one]))
            self._frames = [sample, *(self._frames if request.stats.samples else ())]
        if kind == "read_logs" and request.read_logs.follow:
            self._frames = []

    async def read(self) -> Any:
        if not self._frames:
            await asyncio.Event().wait()
        return self._frames.pop(0)


@pytest.fixture
def followed() -> Counter[str]:
    """The tunnels that agents were asked for and that do not end, by kind."""
    return Counter()


@pytest.fixture
def many(api: Api, followed: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Api:
    def caller(context: Any) -> str:
        return f'user "{dict(context.invocation_metadata())["as"]}"'

    def ask(node_id: NodeId, request: dp.OpenTunnel) -> None:
        kind = request.WhichOneof("kind") or ""
        lasts = kind == "stats" and not request.stats.samples
        followed[kind] += lasts or request.read_logs.follow
        context: Any = _AgentCall(request)
        loop = asyncio.get_running_loop()
        loop.call_soon(tunnels.accept, request.tunnel_id, node_id, GrpcTunnel(context))

    monkeypatch.setattr(admission, "counted_as", caller)
    tunnels = api.desk.tunnels = Tunnels(RandomIds(), ask)
    api.desk.put(Writes(objects=(build.service("web"),), tasks=[build.task("web.1", node="n1")]))
    return api


def _stats(api: Api, who: Any, *, follow: bool) -> Any:
    return api.stub.Stats(stats_pb2.StatsRequest(refs=["web"], follow=follow), metadata=who)


def _logs(api: Api, who: Any, *, follow: bool) -> Any:
    return api.stub.Logs(pb.LogsRequest(ref="web", follow=follow, tail=-1), metadata=who)


async def test_a_caller_with_all_its_streams_delays_nobody_else(
    many: Api, followed: Counter[str]
) -> None:
    calls = []
    async with asyncio.timeout(PATIENCE_S):
        for kind, limit, begin in (("stats", 16, _stats), ("read_logs", 200, _logs)):
            for _ in range(limit):
                call = begin(many, ANN, follow=True)
                calls.append((call, asyncio.ensure_future(call.read())))
            while followed[kind] < limit:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # One more of each is refused, with the limit.
        told = await _stats(many, ANN, follow=False).read()
        assert 'user "ann" has 16 streams of stats on node n1 in progress' in told.warning
        with pytest.raises(grpc.aio.AioRpcError, match='user "ann" has 200 readers of logs'):
            _ = [part async for part in _logs(many, ANN, follow=False)]
        # Her requests are served all the same, and so is everything of others.
        for who in (ANN, BOB):
            assert await many.stub.Top(files_pb2.TopRequest(ref="web.1"), metadata=who) == TOP
            signal = pb.SignalTaskRequest(ref="web.1", signal="SIGHUP")
            await many.stub.SignalTask(signal, metadata=who)
        assert (await _stats(many, BOB, follow=False).read()).tasks[0].stats.pids == 7
        _ = [part async for part in _logs(many, BOB, follow=False)]
        for call, read in calls:
            call.cancel()
            await asyncio.wait([read])
