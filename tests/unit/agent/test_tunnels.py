"""Dialer over real gRPC in this process: what is requested of it, and what it sends."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from agent.images.base import Image
from agent.images.fake import FakeImages, FakeRegistry
from agent.runtime.base import Stats
from agent.runtime.fake import CommandScript, FakeRuntime, Script
from agent.runtime.logs.beginning import BLOCK_BYTES
from agent.runtime.running.attachments import Attachments
from agent.session.tunnels import Dialer, sample_period
from agent.stats.base import Traffic
from agent.stats.fake import FakeMeter
from agent.stats.sampler import Sampler
from agent.streams.serving import Streams
from agent.worker import Worker
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.api.v1 import dispatcher_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2_grpc, images_pb2, stats_pb2
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.logs.limits import LOG_FRAME_BYTES
from pyswarm_core.states import TaskState
from pyswarm_core.streams.shares import share_of
from pyswarm_core.traces import Facts, TraceProbe
from tests.fixtures.agent_parts import collector_of
from tests.unit.agent.test_worker import CHECK, IMAGE, NODE, Host, assigned, task, with_check

MEMORY = 1 << 30
LINE = "2026-01-02T03:04:05.678901234+00:00 stdout F hello\n"


class _Logs(FakeRuntime):
    """A runtime whose logs are real files."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def log_path(self, container_id: str) -> str:
        return str(self._directory / container_id)


async def _traced(probe: TraceProbe) -> Facts:
    return Facts(listeners=(probe.task_id,))


def sampler(worker: Worker, meter: FakeMeter | None = None) -> Sampler:
    return Sampler(meter or FakeMeter(), lambda: worker.records, MEMORY)


def _streams(runtime: FakeRuntime) -> Streams:
    return Streams(runtime, Attachments(SystemClock()), dict, lambda _: socket.socket())


class _Leader(dispatcher_pb2_grpc.DispatcherServicer):
    def __init__(self, enough: int) -> None:
        self.frames: list[pb.TunnelFrame] = []
        self._enough = enough

    async def Tunnel(
        self, frames: AsyncIterator[pb.TunnelFrame], context: object
    ) -> AsyncIterator[pb.TunnelFrame]:
        async for frame in frames:
            self.frames.append(frame)
            if len(self.frames) == self._enough:
                return
        nothing: tuple[pb.TunnelFrame, ...] = ()
        for frame in nothing:
            yield frame


@asynccontextmanager
async def dialled(enough: int = 1_000) -> AsyncIterator[tuple[grpc.aio.Channel, _Leader]]:
    leader = _Leader(enough)  # type: ignore[abstract]
    server = grpc.aio.server()
    dispatcher_pb2_grpc.add_DispatcherServicer_to_server(leader, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, leader
    await server.stop(0)


async def ask(tmp_path: Path, request: pb.OpenTunnel, enough: int = 1_000) -> list[pb.TunnelFrame]:
    """What the leader received, its hanging up after `enough` frames included."""
    host, registry = Host(tmp_path), FakeRegistry()
    registry.push(IMAGE)
    async with asyncio.TaskGroup() as group, host.worker() as worker, dialled(enough) as (to, at):
        images = FakeImages(registry, group)
        await images.resolve(IMAGE)
        runtime = _Logs(tmp_path)
        tunnels = Dialer(
            worker,
            images,
            runtime,
            _traced,
            _streams(runtime),
            sampler=sampler(worker),
            collector=collector_of(images, worker, tmp_path),
        )
        await tunnels.open(to, request)
    return at.frames


async def test_the_first_frame_names_the_tunnel_and_the_answer_follows(tmp_path: Path) -> None:
    first, report, last = await ask(
        tmp_path, pb.OpenTunnel(tunnel_id="t", image_list=pb.ImageList())
    )
    assert first.tunnel_id == "t"
    assert [list(image.names) for image in report.image_report.images] == [[IMAGE]]
    assert last.WhichOneof("kind") == "end"


async def test_an_error_is_the_last_frame_and_keeps_its_name(tmp_path: Path) -> None:
    request = pb.OpenTunnel(image_details=images_pb2.ImageRef(ref="none"))
    assert (await ask(tmp_path, request))[-1].error.kind == "NotFound"


async def test_a_trace_brings_the_facts_of_the_task_that_was_named(tmp_path: Path) -> None:
    _, facts, last = await ask(tmp_path, pb.OpenTunnel(trace=pb.TraceProbe(task_id="t1")))
    assert list(facts.trace_facts.listeners) == ["t1"]
    assert last.WhichOneof("kind") == "end"


async def test_a_pull_that_fails_says_why(tmp_path: Path) -> None:
    request = pb.OpenTunnel(image_pull=pb.ImagePull(reference="registry.test/none:1"))
    error = (await ask(tmp_path, request))[-1].error
    assert (error.kind, "registry.test/none:1" in error.message) == ("NotFound", True)


async def test_a_leader_that_hangs_up_on_a_log_ends_the_tunnel_alone(tmp_path: Path) -> None:
    (tmp_path / "t1").write_text(LINE)
    request = pb.OpenTunnel(read_logs=pb.LogsOptions(task_ids=["t1"], follow=False, tail=-1))
    frames = await ask(tmp_path, request, enough=3)
    assert list(frames[-1].log_lines.texts) == [b"hello"]


async def test_a_frame_of_long_lines_is_bounded(tmp_path: Path) -> None:
    head = LINE.removesuffix("F hello\n")
    long = f"{head}P {'x' * 8192}\n" * 100 + f"{head}F \n"
    (tmp_path / "t1").write_text(long + LINE * 10_000)
    request = pb.OpenTunnel(read_logs=pb.LogsOptions(task_ids=["t1"], follow=False, tail=-1))
    frames = [frame.log_lines for frame in await ask(tmp_path, request)]
    texts = [text for lines in frames for text in lines.texts]
    assert b"".join(texts) == b"x" * 819_200 + b"hello" * 10_000
    assert max(sum(map(len, lines.texts)) for lines in frames) <= 4 * BLOCK_BYTES <= LOG_FRAME_BYTES


LASTING = {
    "read_logs": pb.OpenTunnel(read_logs=pb.LogsOptions(task_ids=["t1"], follow=True, tail=-1)),
    "stats": pb.OpenTunnel(stats=stats_pb2.StatsOptions(period=10**9)),
    "image_pull": pb.OpenTunnel(image_pull=pb.ImagePull(reference=IMAGE)),
}
"""Tunnels that stay open, and of which at once a first frame comes, except for the pull."""


@pytest.mark.parametrize("kind", LASTING)
async def test_tunnels_beyond_the_limit_of_their_kind_are_refused_and_others_go_on(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "t1").write_text(LINE)
    host, lasting, share = Host(tmp_path), LASTING[kind], share_of(kind)
    at_once = [pb.OpenTunnel(task_checks=pb.TaskChecksRequest(task_id="t1"))]
    at_once += [
        pb.OpenTunnel(stats=stats_pb2.StatsOptions(samples=1)),
        pb.OpenTunnel(read_logs=pb.LogsOptions(task_ids=["t1"], tail=-1)),
        pb.OpenTunnel(image_list=pb.ImageList()),
    ]
    async with host.worker() as worker, asyncio.TaskGroup() as group:
        runtime, images = _Logs(tmp_path), _Forever(FakeRegistry(), group)
        dialer = Dialer(
            worker,
            images,
            runtime,
            _traced,
            _streams(runtime),
            sampler=sampler(worker),
            collector=collector_of(images, worker, tmp_path),
        )

        def begin(request: pb.OpenTunnel) -> tuple[asyncio.Task[None], asyncio.Queue[Any]]:
            queue: asyncio.Queue[Any] = asyncio.Queue()
            return group.create_task(dialer._fill(request, queue, group)), queue

        open_ones = [begin(lasting)[0] for _ in range(share.per_node)]
        await asyncio.sleep(0)
        work, queue = begin(lasting)
        await work
        error = (await queue.get()).error
        assert error.kind == "Exhausted"
        assert f"{share.per_node} {share.what} of this node are in progress" in error.message
        for request in at_once:
            if request.WhichOneof("kind") != kind:
                work, queue = begin(request)
                await work
                assert queue.get_nowait().WhichOneof("kind") != "error"
        gone = open_ones.pop()
        gone.cancel()
        await asyncio.wait([gone])
        work, queue = begin(lasting)
        await asyncio.sleep(0)
        assert not work.done()
        for one in (work, *open_ones):
            one.cancel()


async def test_a_pattern_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    options = pb.LogsOptions(task_ids=["t1"], tail=-1, grep="(")
    frames = await ask(tmp_path, pb.OpenTunnel(read_logs=options))
    assert (frames[-1].error.kind, "missing )" in frames[-1].error.message) == (
        "InvalidArgument",
        True,
    )


class _Forever(FakeImages):
    """Images whose pull goes on until it is cancelled."""

    cancelled = False

    async def pull(self, *_: object) -> Image:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            type(self).cancelled = True
            raise
        raise AssertionError


async def test_a_tunnel_that_was_hung_up_on_leaves_no_work_and_no_file_behind(
    tmp_path: Path,
) -> None:
    (tmp_path / "t1").write_text(LINE * 100_000)
    host = Host(tmp_path)
    pull = pb.OpenTunnel(tunnel_id="p", image_pull=pb.ImagePull(reference=IMAGE))
    logs = pb.OpenTunnel(read_logs=pb.LogsOptions(task_ids=["t1"], follow=True, tail=-1))
    async with asyncio.TaskGroup() as group, host.worker() as worker, dialled(1) as (to, _):
        runtime = _Logs(tmp_path)
        images = _Forever(FakeRegistry(), group)
        tunnels = Dialer(
            worker,
            images,
            runtime,
            _traced,
            _streams(runtime),
            sampler=sampler(worker),
            collector=collector_of(images, worker, tmp_path),
        )
        running = asyncio.all_tasks()
        for request in (pull, logs):
            await tunnels.open(to, request)
            assert str(tmp_path / "t1") not in _open_files()
            async with asyncio.timeout(60):
                while _ours(asyncio.all_tasks() - running):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert _Forever.cancelled


def _ours(tasks: set[asyncio.Task[object]]) -> bool:
    """Whether any of the tasks is not the server's, who always waits for another call."""
    return any("AioServer" not in repr(task) for task in tasks)


def _open_files() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return found


async def test_a_digest_is_asked_of_the_registry_and_nothing_is_pulled(tmp_path: Path) -> None:
    request = pb.ImageResolve(reference=IMAGE)
    _, report, last = await ask(tmp_path, pb.OpenTunnel(tunnel_id="t", image_resolve=request))
    (image,) = report.image_report.images
    assert image.digest.startswith("sha256:")
    assert last.HasField("end")
    missing = pb.ImageResolve(reference="nosuch:1")
    *_, last = await ask(tmp_path, pb.OpenTunnel(tunnel_id="t", image_resolve=missing))
    assert last.error.kind == "NotFound"


async def checked_task(tmp_path: Path, request: pb.OpenTunnel) -> tuple[pb.TunnelFrame, Host]:
    """What is answered for the task t1, which is healthy; and its host."""
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    t1 = TaskId("t1")
    script = CommandScript(output=b"fine")
    host.runtime.scripts[t1] = Script(commands={"check": script})
    async with asyncio.TaskGroup() as group, host.worker() as worker, dialled() as (to, at):
        await worker.assign(assigned(with_check(task(), healthcheck=CHECK)), NODE)
        await host.until(lambda seen: t1 in seen and seen[t1].detail.serving)
        images = FakeImages(FakeRegistry(), group)
        tunnels = Dialer(
            worker,
            images,
            host.runtime,
            _traced,
            _streams(host.runtime),
            sampler=sampler(worker),
            collector=collector_of(images, worker, host.directory),
        )
        await tunnels.open(to, request)
        if request.signal_task.stop:
            await host.until(lambda seen: seen[t1].state is TaskState.FAILED)
    return at.frames[1], host


async def test_the_checks_of_a_task_and_their_results_are_sent(tmp_path: Path) -> None:
    request = pb.OpenTunnel(task_checks=pb.TaskChecksRequest(task_id="t1"))
    frame, _ = await checked_task(tmp_path, request)
    (check,) = frame.task_checks.checks
    assert (check.kind, check.state, list(check.config.test)) == (
        "health",
        "healthy",
        ["CMD", "check"],
    )
    assert {result.output for result in check.results} == {"fine"}


async def test_a_signal_reaches_the_process(tmp_path: Path) -> None:
    request = pb.OpenTunnel(signal_task=pb.TaskSignal(task_id="t1", signal="SIGUSR1"))
    frame, host = await checked_task(tmp_path, request)
    assert frame.HasField("end")
    assert ("t1", signal.SIGUSR1) in host.runtime.signals


async def test_a_stop_ends_the_process_and_the_restart_policy_decides(tmp_path: Path) -> None:
    request = pb.OpenTunnel(signal_task=pb.TaskSignal(task_id="t1", stop=True))
    frame, host = await checked_task(tmp_path, request)
    assert frame.HasField("end")
    assert host.runtime.signals == [("t1", signal.SIGTERM)]
    assert host.seen[TaskId("t1")].detail.message == "stopped on request"


async def test_a_task_whose_process_does_not_run_gets_no_signal(tmp_path: Path) -> None:
    request = pb.OpenTunnel(signal_task=pb.TaskSignal(task_id="t2", signal="HUP"))
    frame, host = await checked_task(tmp_path, request)
    assert frame.error.kind == "Conflict"
    assert host.runtime.signals == []


async def sampled_frames(
    tmp_path: Path, options: stats_pb2.StatsOptions, enough: int = 1_000
) -> list[list[stats_pb2.TaskStats]]:
    """What the leader receives of two tasks, t1 of web and t2 of db."""
    host, meter = Host(tmp_path), FakeMeter()
    host.registry.push(IMAGE)
    meter.used = {
        "t1": Stats(memory_bytes=5, memory_limit_bytes=64, cpu_ns=7, pids=2, io_write_bytes=9),
        "t2": Stats(),
    }
    meter.traffic = {"t1": Traffic(received_bytes=11, sent_bytes=12)}
    async with asyncio.TaskGroup() as group, host.worker() as worker, dialled(enough) as (to, at):
        other = task("t2")
        db = msgspec.structs.replace(other.template, service_id=ServiceId("db"))
        await worker.assign(assigned(task(), msgspec.structs.replace(other, template=db)), NODE)
        await host.until(
            lambda seen: len(seen) == 2 and all(s.detail.serving for s in seen.values())
        )
        images = FakeImages(FakeRegistry(), group)
        dialer = Dialer(
            worker,
            images,
            host.runtime,
            _traced,
            _streams(host.runtime),
            sampler=sampler(worker, meter),
            collector=collector_of(images, worker, host.directory),
        )
        await dialer.open(to, pb.OpenTunnel(tunnel_id="t", stats=options))
    return [list(frame.stats.tasks) for frame in at.frames if frame.HasField("stats")]


async def test_a_sample_has_what_each_container_uses(tmp_path: Path) -> None:
    ((first, second),) = await sampled_frames(tmp_path, stats_pb2.StatsOptions(samples=1))
    assert first.at > 0
    first.at = 0
    assert first == stats_pb2.TaskStats(
        task_id="t1", cpu_ns=7, memory_bytes=5, memory_limit_bytes=64, pids=2, received_bytes=11,
        sent_bytes=12, written_bytes=9,
    )  # fmt: skip
    assert (second.task_id, second.memory_limit_bytes) == ("t2", MEMORY)


async def test_samples_are_of_the_named_tasks_and_services(tmp_path: Path) -> None:
    by_task = stats_pb2.StatsOptions(task_ids=["t1"], samples=2)
    frames = await sampled_frames(tmp_path / "1", by_task)
    assert [[one.task_id for one in frame] for frame in frames] == [["t1"], ["t1"]]
    assert frames[0][0].at < frames[1][0].at
    by_service = stats_pb2.StatsOptions(service_ids=["db"], samples=1)
    ((one,),) = await sampled_frames(tmp_path / "2", by_service)
    assert one.task_id == "t2"


async def test_samples_come_until_the_leader_hangs_up(tmp_path: Path) -> None:
    frames = await sampled_frames(tmp_path, stats_pb2.StatsOptions(), enough=4)
    assert len(frames) == 3


def test_samples_come_no_faster_than_ten_times_per_second() -> None:
    periods = [sample_period(stats_pb2.StatsOptions(period=p)) for p in (-1, 0, 10**6, 10**9)]
    assert periods == [10**8, 10**8, 10**8, 10**9]
