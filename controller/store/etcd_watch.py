"""A watch that survives its connections: etcd's stream, resumed where it broke. SHELL.

One stream per watch, so that no watch can feed another. It asks for one revision more than it
needs and drops that one's events: etcd serves a watch from the compacted revision itself, although
the deletions of that revision may be gone already; so asked, it refuses, and nothing is missed.
"""

import asyncio
import logging
from types import TracebackType
from typing import Self

from grpc import aio

from controller.store.base import (
    Compacted,
    Event,
    Revision,
    StoreDenied,
    StoreUnavailable,
    WatchBatch,
)
from controller.store.etcd_endpoints import CallFailed, Endpoint, Endpoints, Metadata
from controller.store.etcd_faults import Kind, broken_stream, is_denial, understand
from controller.store.etcd_messages import events_from, prefix_range
from pyswarm_core.etcd.v1 import rpc_pb2

log = logging.getLogger(__name__)

_HAS_LEADER = ("hasleader", "true")
"""Makes a member that lost its leader end the stream instead of staying silent."""

_OPEN_TIMEOUT_S = 3.0
_PAUSE_MIN_S = 0.05
_PAUSE_MAX_S = 1.0

Stream = aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


class EtcdWatch:
    """A watch over a prefix; see the Watch protocol. Only one `__anext__` at a time."""

    def __init__(self, endpoints: Endpoints, prefix: bytes, start_revision: Revision) -> None:
        self._endpoints = endpoints
        self._prefix = prefix
        self._next = start_revision
        self._endpoint: Endpoint | None = None
        self._credentials: Metadata = ()
        self._stream: Stream | None = None
        self._held: list[Event] = []
        self._cluster_id = 0
        self._denials = 0
        self._pause_s = 0.0
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._is_over():
            try:
                batch = await self._step()
            except CallFailed as failed:
                self._hang_up()
                await self._recover(failed)
            except asyncio.CancelledError:
                self._hang_up()
                if not self._is_over() or _is_cancelled():
                    raise
            except BaseException:
                # Over for good: a stream left open would never be collected.
                self._hang_up()
                raise
            else:
                if batch is not None:
                    return batch
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._closed = True
        self._hang_up()
        self._endpoint = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _is_over(self) -> bool:
        return self._closed

    async def _step(self) -> WatchBatch | None:
        """Connect if need be and take one answer."""
        if self._stream is None:
            await asyncio.sleep(self._pause_s)
            await self._open()
        return self._take(await self._read())

    async def _open(self) -> None:
        endpoint = self._endpoint = self._endpoints.current()
        self._credentials = await self._endpoints.credentials(endpoint)
        first, end = prefix_range(self._prefix)
        create = rpc_pb2.WatchCreateRequest(
            key=first,
            range_end=end,
            start_revision=max(1, self._next - 1),
            progress_notify=True,
            fragment=True,
        )
        self._stream = endpoint.watch.Watch(None, metadata=(_HAS_LEADER, *self._credentials))
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await self._send(rpc_pb2.WatchRequest(create_request=create))
                answer = await self._read()
        except TimeoutError:
            raise CallFailed(
                broken_stream(endpoint.address, f"no watch within {_OPEN_TIMEOUT_S} s")
            ) from None
        self._take(answer)
        await self._check_history(answer.header)
        self._pause_s = 0.0
        self._denials = 0

    async def _send(self, request: rpc_pb2.WatchRequest) -> None:
        stream, endpoint = self._live()
        try:
            await stream.write(request)
        except asyncio.InvalidStateError:
            raise CallFailed(
                understand(await stream.code(), await stream.details(), endpoint.address)
            ) from None
        except aio.AioRpcError as error:
            raise CallFailed(understand(error.code(), error.details(), endpoint.address)) from None

    async def _read(self) -> rpc_pb2.WatchResponse:
        stream, endpoint = self._live()
        try:
            answer = await stream.read()
        except asyncio.InvalidStateError:
            raise CallFailed(broken_stream(endpoint.address, "the watch was cut")) from None
        except aio.AioRpcError as error:
            raise CallFailed(understand(error.code(), error.details(), endpoint.address)) from None
        if not isinstance(answer, rpc_pb2.WatchResponse):
            raise CallFailed(broken_stream(endpoint.address, "the watch's stream ended"))
        return answer

    def _live(self) -> tuple[Stream, Endpoint]:
        if self._stream is None or self._endpoint is None:
            raise StopAsyncIteration
        return self._stream, self._endpoint

    def _take(self, answer: rpc_pb2.WatchResponse) -> WatchBatch | None:
        """The whole revisions an answer completes; None if it completes none."""
        if answer.canceled:
            self._cancelled(answer)
        self._held += events_from(answer.events, self._next)
        if not answer.events and not answer.created and not self._held:
            # Progress: there was nothing for us up to here.
            self._next = Revision(max(self._next, answer.header.revision + 1))
        whole = len(self._held)
        if answer.fragment and whole:
            # The last revision may go on in the next fragment; those before it are whole.
            last = self._held[-1].kv.mod_revision
            while whole and self._held[whole - 1].kv.mod_revision == last:
                whole -= 1
        if not whole:
            return None
        ready = tuple(self._held[:whole])
        del self._held[:whole]
        revision = ready[-1].kv.mod_revision
        self._next = Revision(revision + 1)
        return WatchBatch(revision, ready)

    def _cancelled(self, answer: rpc_pb2.WatchResponse) -> None:
        if answer.compact_revision:
            raise Compacted(Revision(answer.compact_revision))
        endpoint = self._endpoints.current() if self._endpoint is None else self._endpoint
        why = f"the watch was cancelled: {answer.cancel_reason or 'no reason given'}"
        fault = broken_stream(endpoint.address, why)
        if is_denial(answer.cancel_reason):
            # etcd calls an outdated token a lack of permission: believe it the second time.
            self._endpoints.drop(self._credentials)
            self._denials += 1
            if self._denials > 1 or not self._credentials:
                raise StoreDenied(f"etcd {endpoint.address}: {why}")
        raise CallFailed(fault)

    async def _check_history(self, header: rpc_pb2.ResponseHeader) -> None:
        """Another history's revisions mean nothing to us: was etcd restored, emptied, replaced?"""
        known, self._cluster_id = self._cluster_id, header.cluster_id
        if known and known != header.cluster_id:
            raise Compacted(Revision(0))
        seen = self._next - 1
        # Either this member lags behind, or what we saw never happened: the quorum knows.
        if known and header.revision < seen and await self._newest_revision() < seen:
            raise Compacted(Revision(0))

    async def _newest_revision(self) -> int:
        request = rpc_pb2.RangeRequest(key=prefix_range(self._prefix)[0], limit=1)
        try:
            answer = await self._endpoints.call(lambda endpoint: endpoint.kv.Range, request)
        except StoreUnavailable as error:
            raise CallFailed(broken_stream("", str(error))) from None
        return answer.header.revision

    async def _recover(self, failed: CallFailed) -> None:
        if failed.fault.kind is Kind.REFUSED:
            raise failed.fault.error
        if failed.fault.kind is Kind.TOKEN:
            self._endpoints.drop(self._credentials)
        elif self._endpoint is not None:
            self._endpoints.leave(self._endpoint)
        log.warning("watch.resume", extra={"revision": self._next, "reason": str(failed)})
        self._pause_s = min(max(self._pause_s * 2, _PAUSE_MIN_S), _PAUSE_MAX_S)

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
        self._stream = None
        self._held.clear()


def _is_cancelled() -> bool:
    """Was this task cancelled, or only the stream it read from?"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
