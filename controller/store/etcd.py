"""The store on etcd, version 3.4 or later. SHELL: thin calls over the endpoints.

Reads, leases and compactions are repeated when a member fails; a transaction is repeated only if it
cannot have been received. A cancelled call leaves nothing running.
"""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from controller.store.base import (
    NO_LEASE,
    Committed,
    Compacted,
    CompareFailed,
    Delete,
    KeyValue,
    Lease,
    LeaseExpired,
    LeaseId,
    Outcome,
    Revision,
    Snapshot,
    StoreError,
    StoreMisuse,
    StoreStatus,
    Txn,
    check_txn,
    txn_size,
)
from controller.store.etcd_endpoints import EtcdEndpoints, EtcdSettings, Idempotency
from controller.store.etcd_faults import AnswerTooLarge
from controller.store.etcd_lease import Renewals
from controller.store.etcd_log import EntryLog
from controller.store.etcd_messages import key_value, key_values, prefix_range, txn_request
from controller.store.etcd_pages import Pages
from controller.store.etcd_wait import wait_deleted
from pyswarm_core.etcd.v1 import rpc_pb2

_READS = 3
"""How often a read starts over when a compaction overtakes it."""


class EtcdStore:
    """A Store on an etcd cluster. Create and use it inside one running event loop."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._endpoints = EtcdEndpoints(settings)
        self._log = EntryLog() if settings.pads_log else None
        self._renewals = Renewals(settings)
        self._renewing = ThreadPoolExecutor(1, thread_name_prefix="renewal")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def get(self, key: bytes) -> KeyValue | None:
        if not key:
            raise StoreMisuse("a key is empty")
        answer = await self._endpoints.call(
            lambda etcd: etcd.kv.Range, rpc_pb2.RangeRequest(key=key)
        )
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def read(self, prefix: bytes, revision: Revision | None = None) -> Snapshot:
        if revision is not None:
            return await self._read_at(prefix, revision)
        for _ in range(_READS - 1):
            try:
                return await self._read_at(prefix, Revision(0))
            except Compacted:
                continue
        return await self._read_at(prefix, Revision(0))

    async def commit(self, txn: Txn) -> Outcome:
        check_txn(txn)
        try:
            answer = await self._endpoints.call(
                lambda etcd: etcd.kv.Txn, txn_request(txn), Idempotency.GUARDED
            )
        except LeaseExpired:
            leases = (put.lease for put in txn.puts if put.lease != NO_LEASE)
            raise LeaseExpired(next(leases, NO_LEASE)) from None
        if self._log is not None:
            await self._pad(txn, self._log.wrote(txn_size(txn)))
        revision = Revision(answer.header.revision)
        return Committed(revision) if answer.succeeded else CompareFailed(revision)

    async def wait_deleted(self, key: bytes, since: Revision) -> None:
        await wait_deleted(self._endpoints, key, since)

    async def grant_lease(self, ttl_s: int) -> Lease:
        if ttl_s < 1:
            raise StoreMisuse(f"ttl_s: value {ttl_s} is not valid: expected at least 1")
        answer = await self._endpoints.call(
            lambda etcd: etcd.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=ttl_s)
        )
        return Lease(LeaseId(answer.ID), answer.TTL)

    async def keep_lease(self, lease: LeaseId) -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._renewing, self._renewals.renew, lease)

    async def revoke_lease(self, lease: LeaseId) -> None:
        try:
            await self._endpoints.call(
                lambda etcd: etcd.lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease)
            )
        except LeaseExpired:
            return

    async def compact(self, revision: Revision) -> None:
        request = rpc_pb2.CompactionRequest(revision=revision)
        try:
            await self._endpoints.call(
                lambda etcd: etcd.kv.Compact, request, timeout_s=self._settings.page_timeout_s
            )
        except Compacted:
            return

    async def make_room(self, revision: Revision) -> int:
        """Compact all history before `revision`, return free pages to the file system and allow
        writes again if the file is smaller then; returns its size in bytes. Raises StoreError.
        """
        limit = self._settings.room_timeout_s
        compaction = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        with contextlib.suppress(Compacted):
            await self._endpoints.call(lambda etcd: etcd.kv.Compact, compaction, timeout_s=limit)
        before = (await self.status()).size_bytes
        await self._endpoints.call(
            lambda etcd: etcd.maintenance.Defragment, rpc_pb2.DefragmentRequest(), timeout_s=limit
        )
        after = (await self.status()).size_bytes
        if after < before:
            await self._disarm()
        return after

    async def _disarm(self) -> None:
        raised = await self._endpoints.call(
            lambda etcd: etcd.maintenance.Alarm, rpc_pb2.AlarmRequest()
        )
        for member in raised.alarms:
            if member.alarm == rpc_pb2.NOSPACE:
                disarm = rpc_pb2.AlarmRequest(
                    action=rpc_pb2.AlarmRequest.DEACTIVATE,
                    memberID=member.memberID,
                    alarm=member.alarm,
                )
                await self._endpoints.call(lambda etcd: etcd.maintenance.Alarm, disarm)

    async def status(self) -> StoreStatus:
        answer = await self._endpoints.call(
            lambda etcd: etcd.maintenance.Status, rpc_pb2.StatusRequest()
        )
        return StoreStatus(
            version=answer.version,
            revision=Revision(answer.header.revision),
            has_leader=answer.leader != 0,
            size_bytes=answer.dbSize,
            alarms=tuple(answer.errors),
        )

    async def members(self) -> tuple[str, ...]:
        """The URLs at which etcd's members serve clients and each other."""
        answer = await self._endpoints.call(
            lambda etcd: etcd.cluster.MemberList, rpc_pb2.MemberListRequest()
        )
        urls = (url for member in answer.members for url in (*member.clientURLs, *member.peerURLs))
        return tuple(dict.fromkeys(urls))

    async def close(self) -> None:
        self._renewals.close()
        self._renewing.shutdown(wait=False)
        await self._endpoints.close()

    async def _pad(self, txn: Txn, count: int) -> None:
        """Write transactions that change nothing, to bound etcd's log. They are independent of the
        one before, which was applied.
        """
        if not count or not txn.puts:
            return
        # The key never exists, and the users who may write the one key may delete the other.
        nothing = txn_request(Txn(deletes=(Delete(txn.puts[0].key + b"\0"),)))
        with contextlib.suppress(StoreError):
            await asyncio.gather(
                *(self._endpoints.call(lambda etcd: etcd.kv.Txn, nothing) for _ in range(count))
            )

    async def _read_at(self, prefix: bytes, revision: Revision) -> Snapshot:
        """Page by page; the first page fixes the revision of all others (0: the current one)."""
        items: list[KeyValue] = []
        pages = Pages(*prefix_range(prefix))
        while (span := pages.next_range()) is not None:
            first, end = span
            request = rpc_pb2.RangeRequest(
                key=first, range_end=end, limit=pages.limit, revision=revision
            )
            try:
                answer = await self._endpoints.call(
                    lambda etcd: etcd.kv.Range, request, timeout_s=self._settings.page_timeout_s
                )
            except AnswerTooLarge:
                if not pages.too_large():
                    raise
                continue
            revision = revision or Revision(answer.header.revision)
            page = key_values(answer.kvs)
            items += page
            pages.got(page[-1].key if page else first, len(page), answer.count)
            if page:
                pages.weighed(len(page), answer.ByteSize())
        items.sort(key=lambda item: item.key)
        return Snapshot(revision, tuple(items))
