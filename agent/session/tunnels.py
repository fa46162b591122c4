"""Streams that the controller requests: logs, traces, checks, signals, stats. SHELL. Those about
images are in `images.py`, about containers in `containers.py`; byte streams are in `streams.py`.

The agent dials back, so no host needs an inbound port. The first frame has the tunnel's id; the
last one is an error or the end: without it, the agent died. A broken tunnel does not end the
session.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import count

import grpc

from agent.images.base import ImageError, ImageInUse, ImageNotFound, Images
from agent.images.gc.collector import Collector
from agent.runtime.base import Runtime, RuntimeFailed
from agent.session.containers import CONTAINER_KINDS, Containers
from agent.session.images import IMAGE_KINDS, HostImages
from agent.session.logs import Logs
from agent.session.streams import REQUESTS, serve_stream
from agent.stats.base import Sample, Traffic
from agent.stats.sampler import Measured, Sampler
from agent.streams.serving import Streams
from agent.tasks.events import StopRequested
from agent.tasks.ocispec_process import signal_number
from agent.tasks.record import Record
from agent.worker import Worker
from pyswarm_core import errors
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import name_of
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, stats_pb2
from pyswarm_core.clock import seconds
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import STATS_PERIOD_MIN
from pyswarm_core.streams.shares import Share, share_of
from pyswarm_core.traces import Facts, TraceProbe

_log = EventLog("agent.session.tunnels")

FRAMES_QUEUED = 64
LOG_FRAMES_QUEUED = 1
"""There may be many readers, and frames of logs are large."""
_LAST = ("end", "error")
_IMAGE_ERRORS: dict[type[Exception], str] = {
    ImageNotFound: errors.NotFound.__name__,
    ImageInUse: errors.Conflict.__name__,
}

Frame = dispatcher_pb2.TunnelFrame
Frames = AsyncGenerator[dispatcher_pb2.TunnelFrame, None]
Queue = asyncio.Queue[dispatcher_pb2.TunnelFrame]
Trace = Callable[[TraceProbe], Awaitable[Facts]]


class Dialer:
    """Opens the tunnels that the controller requests (OpenTunnel)."""

    def __init__(
        self,
        worker: Worker,
        images: Images,
        runtime: Runtime,
        trace: Trace,
        streams: Streams,
        *,
        sampler: Sampler,
        collector: Collector,
    ) -> None:
        self._worker = worker
        self._streams = streams
        self._trace = trace
        self._sampler = sampler
        self._images = HostImages(images, worker, collector)
        self._runtime = runtime
        self._containers = Containers(worker, runtime, images)
        self._logs = Logs(worker, runtime)
        self._open: Counter[Share] = Counter()

    def close(self) -> None:
        """End its threads."""
        self._containers.close()

    async def open(
        self,
        connection: grpc.aio.Channel,
        request: dispatcher_pb2.OpenTunnel,
    ) -> None:
        """Dial back and stream until the last frame, or until the controller closes the stream."""
        if request.WhichOneof("kind") in REQUESTS:
            await serve_stream(self._streams, connection, request)
            return
        is_log = request.WhichOneof("kind") == "read_logs"
        queue: Queue = asyncio.Queue(LOG_FRAMES_QUEUED if is_log else FRAMES_QUEUED)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._fill(request, queue, group))
            tunnel = dispatcher_pb2_grpc.DispatcherStub(connection).Tunnel
            call = tunnel(_framed(request.tunnel_id, queue))
            try:
                # The controller sends nothing; reading detects that it closed the stream.
                async for _ in call:
                    pass
            except grpc.RpcError as error:
                _log.debug("tunnel.ended", tunnel=request.tunnel_id, code=error.code())
            finally:
                call.cancel()
                work.cancel()
                _end(queue)

    async def _fill(
        self, request: dispatcher_pb2.OpenTunnel, queue: Queue, group: asyncio.TaskGroup
    ) -> None:
        """Queue the answer's frames; the last is the end, or an error."""
        last = Frame(end=dispatcher_pb2.TunnelEnd())
        kind = request.WhichOneof("kind")
        share = share_of(kind or "")
        self._open[share] += 1
        try:
            if self._open[share] > share.per_node:
                raise errors.Exhausted(
                    f"{share.per_node} {share.what} of this node are in progress, which is the"
                    " limit: try again later"
                )
            if kind in CONTAINER_KINDS:
                await self._containers.answer(request, queue.put, group)
            elif kind in IMAGE_KINDS:
                await self._images.answer(request, queue)
            else:
                await self._answer(request, queue)
        except (ImageError, PyswarmError, OSError) as error:
            last = _error(_IMAGE_ERRORS.get(type(error), name_of(error)), str(error))
        except Exception as error:
            _log.error("tunnel.internal_error", trace=True, tunnel=request.tunnel_id, error=error)
            last = _error(name_of(error), f"internal error of the agent: {type(error).__name__}")
        finally:
            self._open[share] -= 1
        await queue.put(last)

    async def _answer(self, request: dispatcher_pb2.OpenTunnel, queue: Queue) -> None:
        match request.WhichOneof("kind"):
            case "read_logs":
                await self._logs.send(request.read_logs, queue.put)
            case "trace":
                facts = await self._trace(from_proto(TraceProbe, request.trace))
                await queue.put(Frame(trace_facts=to_proto(facts, dispatcher_pb2.TraceFacts())))
            case "task_checks":
                await queue.put(self._checks(TaskId(request.task_checks.task_id)))
            case "signal_task":
                await self._signal(request.signal_task)
            case "stats":
                await self._stats(request.stats, queue)
            case other:
                what = f"tunnels of kind {other}" if other else "this operation: upgrade it"
                raise PyswarmError(f"this agent does not support {what}")

    async def _stats(self, options: stats_pb2.StatsOptions, queue: Queue) -> None:
        period_ns = sample_period(options)
        task_ids, service_ids = set(options.task_ids), set(options.service_ids)

        def wanted(record: Record) -> bool:
            named = record.task_id in task_ids or record.service_id in service_ids
            return named or not (task_ids or service_ids)

        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in count(1):
            # A reader that begins between two samples of another one gets the newest of them.
            measured = await asyncio.to_thread(self._sampler.sample, period_ns // 2, wanted=wanted)
            await queue.put(_stats_frame(measured, self._sampler.memory_bytes))
            if number == options.samples:
                return
            # After a late reading the next one is of other values, too.
            due = max(due + seconds(period_ns), loop.time() + seconds(period_ns // 2))
            await asyncio.sleep(due - loop.time())

    def _checks(self, task_id: TaskId) -> dispatcher_pb2.TunnelFrame:
        record = self._worker.records.get(task_id)
        checks = record.task_checks if record else ()
        messages = [to_proto(check, dispatcher_pb2.TaskCheck()) for check in checks]
        return Frame(task_checks=dispatcher_pb2.TaskChecks(checks=messages))

    async def _signal(self, request: dispatcher_pb2.TaskSignal) -> None:
        record = self._worker.records.get(TaskId(request.task_id))
        if record is None or not record.process_runs:
            raise errors.Conflict("the task's process does not run")
        if request.stop:
            self._worker.handle(record.task_id, StopRequested(request.signal, request.timeout))
            return
        try:
            await self._runtime.kill(record.task_id, signal_number(request.signal))
        except RuntimeFailed as error:
            raise errors.Unavailable(str(error)) from error


async def _framed(tunnel_id: str, queue: Queue) -> Frames:
    """The frames that gRPC sends. It owns no resource: gRPC keeps the iterator of an ended call."""
    yield Frame(tunnel_id=tunnel_id)
    while kind := (frame := await queue.get()).WhichOneof("kind"):
        yield frame
        if kind in _LAST:
            return


def _end(queue: Queue) -> None:
    """End the iterator that still waits for frames."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(Frame())


def sample_period(options: stats_pb2.StatsOptions) -> int:
    """Nanoseconds between two samples."""
    return max(options.period, STATS_PERIOD_MIN)


def _stats_frame(measured: Sequence[Measured], memory_bytes: int) -> dispatcher_pb2.TunnelFrame:
    return Frame(
        stats=stats_pb2.StatsSample(
            tasks=[_task_stats(one.record.task_id, one.sample, memory_bytes) for one in measured]
        )
    )


def _task_stats(task_id: TaskId, sample: Sample, memory_bytes: int) -> stats_pb2.TaskStats:
    stats, traffic = sample.stats, sample.traffic or Traffic()
    return stats_pb2.TaskStats(
        task_id=task_id,
        at=sample.at_ns,
        cpu_ns=stats.cpu_ns,
        memory_bytes=stats.memory_bytes,
        memory_limit_bytes=min(stats.memory_limit_bytes or memory_bytes, memory_bytes),
        pids=stats.pids,
        received_bytes=traffic.received_bytes,
        sent_bytes=traffic.sent_bytes,
        read_bytes=stats.io_read_bytes,
        written_bytes=stats.io_write_bytes,
    )


def _error(kind: str, message: str) -> dispatcher_pb2.TunnelFrame:
    return Frame(error=dispatcher_pb2.TunnelError(kind=kind, message=message))
