"""Waiting for a key's deletion: one etcd watch per wait. SHELL.

A broken watch is not resumed: the caller reads the key again, which gives the same answer.
"""

import asyncio

from grpc import aio

from controller.store.base import Revision, StoreUnavailable
from controller.store.etcd_endpoints import CallFailed, EtcdEndpoint, EtcdEndpoints, Metadata
from controller.store.etcd_faults import (
    CallFault,
    FaultKind,
    broken_stream,
    cancelled_watch,
    understand,
)
from pyswarm_core.aio.daemon import was_cancelled
from pyswarm_core.etcd.v1 import mvcc_pb2, rpc_pb2

_HAS_LEADER = ("hasleader", "true")
"""A member that lost its leader ends the stream instead of staying silent."""

_OPEN_TIMEOUT_S = 3.0

_Stream = aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


async def wait_deleted(endpoints: EtcdEndpoints, key: bytes, since: Revision) -> None:
    """See the Store protocol. Raises StoreDenied for credentials that cannot read the key."""
    # etcd reports an outdated token as a lack of permission: only the second such error is final.
    may_be_outdated = bool(endpoints.settings.username)
    while True:
        endpoint = endpoints.current()
        credentials: Metadata = ()
        try:
            credentials = await endpoints.credentials(endpoint)
            fault = await _watch(endpoint, credentials, key, since)
        except CallFailed as failed:
            fault = failed.fault
        if fault is None:
            return
        if fault.kind is FaultKind.TOKEN and may_be_outdated:
            endpoints.drop(credentials)
            may_be_outdated = False
            continue
        if fault.kind in (FaultKind.TOKEN, FaultKind.REFUSED):
            raise fault.error
        endpoints.leave(endpoint)
        raise StoreUnavailable(str(fault.error))


async def _watch(
    endpoint: EtcdEndpoint, credentials: Metadata, key: bytes, since: Revision
) -> CallFault | None:
    """Return None when the key was deleted, otherwise why this watch cannot know."""
    stream = endpoint.watch.Watch(None, metadata=(_HAS_LEADER, *credentials))
    try:
        return await _follow(stream, endpoint, key, since)
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        return broken_stream(endpoint.address, "the watch was cut")
    except asyncio.InvalidStateError:  # what a write to a finished stream raises
        return understand(await stream.code(), await stream.details(), endpoint.address)
    except aio.AioRpcError as error:
        return understand(error.code(), error.details(), endpoint.address)
    finally:
        # Otherwise the watch stays registered at etcd: an open stream is never collected.
        stream.cancel()


async def _follow(
    stream: _Stream, endpoint: EtcdEndpoint, key: bytes, since: Revision
) -> CallFault | None:
    # etcd serves a watch from the compacted revision itself, although deletions of that revision
    # may be gone. A request for one revision more is refused, and no deletion is missed.
    create = rpc_pb2.WatchCreateRequest(
        key=key,
        start_revision=max(1, since - 1),
        filters=(rpc_pb2.WatchCreateRequest.NOPUT,),
    )
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            await stream.write(rpc_pb2.WatchRequest(create_request=create))
            answer = await stream.read()
    except TimeoutError:
        return broken_stream(endpoint.address, f"no watch within {_OPEN_TIMEOUT_S} s")
    while isinstance(answer, rpc_pb2.WatchResponse):
        if answer.canceled:
            return cancelled_watch(answer.cancel_reason, answer.compact_revision, endpoint.address)
        if any(_is_deletion(event, since) for event in answer.events):
            return None
        answer = await stream.read()
    return broken_stream(endpoint.address, "the watch's stream ended")


def _is_deletion(event: mvcc_pb2.Event, since: Revision) -> bool:
    return event.type == mvcc_pb2.Event.DELETE and event.kv.mod_revision >= since
