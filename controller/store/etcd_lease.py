"""Renewals of leases, on connections of their own. SHELL: blocks; called from threads.

Shares nothing with the other calls to etcd: no connection, no token, and not gRPC's one completion
queue for all event loops, in which a renewal would wait behind the messages of all agents. So a
renewal depends on no other event loop than the caller's.
"""

import grpc

from controller.store.base import LeaseExpired, LeaseId, StoreError, StoreUnavailable
from controller.store.etcd_endpoints import (
    AUTHENTICATE_TIMEOUT_S,
    EtcdSettings,
    Metadata,
    channel_options,
    target_of,
)
from controller.store.etcd_faults import FaultKind, broken_stream, understand
from pyswarm_core.etcd.v1 import rpc_pb2, rpc_pb2_grpc


class _Member:
    """One member's channel and stubs."""

    def __init__(self, address: str, settings: EtcdSettings) -> None:
        self.endpoint = address
        tls = settings.tls()
        self.address, credentials = target_of(address, tls)
        options = channel_options(settings, tls)
        self.channel = (
            grpc.secure_channel(self.address, credentials, options=options)
            if credentials
            else grpc.insecure_channel(self.address, options=options)
        )
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.auth = rpc_pb2_grpc.AuthStub(self.channel)


class Renewals:
    """Renews leases, one call at a time. Starts at the member that answered last."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._tls = settings.tls()
        self._members = [_Member(address, settings) for address in settings.endpoints]
        self._token: Metadata = ()

    def renew(self, lease: LeaseId) -> int:
        """The lease's full time to live in seconds, from now on.

        Asks each member once, for at most `call_timeout_s` each. Raises LeaseExpired; StoreMisuse
        for wrong credentials; otherwise StoreUnavailable: renewing again later is harmless.
        """
        error: StoreError = StoreUnavailable("the store is closed")
        self._follow_tls()
        tries = 2 * len(self._members)  # each member may need a new token once
        asked = 0
        while asked < len(self._members) and tries:
            tries -= 1
            member = self._members[0]
            try:
                ttl_s = self._renew_at(member, lease)
            except grpc.RpcError as failed:
                fault = understand(failed.code(), failed.details(), member.address)
            except StopIteration:
                fault = broken_stream(member.address, "the call was cut")
            else:
                if ttl_s <= 0:
                    raise LeaseExpired(lease)
                return ttl_s
            error = fault.error
            if fault.kind is FaultKind.REFUSED:
                raise error
            if fault.kind is FaultKind.TOKEN and self._token:
                self._token = ()
                continue
            self._members.append(self._members.pop(0))
            asked += 1
        raise StoreUnavailable(str(error))

    def close(self) -> None:
        """Close the channels; a call in progress fails."""
        members, self._members = self._members, []
        for member in members:
            member.channel.close()

    def _follow_tls(self) -> None:
        """Open other channels if the certificates have changed; one that was tried stays first."""
        tls = self._settings.tls()
        if tls is self._tls or not self._members:
            return
        self._tls = tls
        former = self._members
        self._members = [_Member(member.endpoint, self._settings) for member in former]
        for member in former:
            member.channel.close()

    def _renew_at(self, member: _Member, lease: LeaseId) -> int:
        """Raises RpcError, and StopIteration when the stream ends without an answer."""
        if self._settings.username and not self._token:
            request = rpc_pb2.AuthenticateRequest(
                name=self._settings.username, password=self._settings.password
            )
            try:
                answer = member.auth.Authenticate(request, timeout=AUTHENTICATE_TIMEOUT_S)
                self._token = (("token", answer.token),)
            except grpc.RpcError as failed:
                if "authentication is not enabled" not in (failed.details() or ""):
                    raise
        call = member.lease.LeaseKeepAlive(
            iter((rpc_pb2.LeaseKeepAliveRequest(ID=lease),)),
            timeout=self._settings.call_timeout_s,
            metadata=self._token,
        )
        try:
            return next(answer.TTL for answer in call)
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # a gap in the stubs
