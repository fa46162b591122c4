"""Channels to etcd's members, the token, and the repetition of calls. SHELL.

One endpoint is current; a failed call makes the next one current for all calls. Only calls that
cannot have taken effect, or that are harmless twice, are repeated. Every call ends within its
timeout.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import TypeVar

import grpc
import msgspec
from grpc import aio

from controller.store.base import StoreMisuse, StoreUnavailable
from controller.store.etcd_faults import CallFault, FaultKind, understand
from controller.store.etcd_tls import EtcdTls, no_tls
from pyswarm_core.aio.metrics import is_loopback
from pyswarm_core.errors import quoted
from pyswarm_core.etcd.v1 import rpc_pb2, rpc_pb2_grpc

Q = TypeVar("Q")
R = TypeVar("R")
Metadata = tuple[tuple[str, str], ...]

_CYCLES = 2
"""How often a call tries all endpoints before it fails."""
_CYCLE_PAUSE_S = 0.05
AUTHENTICATE_TIMEOUT_S = 5.0
"""etcd checks passwords with bcrypt, which is slow by design."""


class EtcdSettings(msgspec.Struct, frozen=True):
    """The endpoints and credentials of etcd. Endpoints are host:port, http://host:port,
    https://host:port, unix:/path or unixs:/path (with TLS).
    """

    endpoints: tuple[str, ...]
    username: str = ""
    password: str = ""
    tls: Callable[[], EtcdTls] = no_tls
    """The certificates to use now; others than before are used by new channels."""
    call_timeout_s: float = 1.0
    page_timeout_s: float = 5.0
    """For calls whose duration grows with the data: a page of a read, a compaction."""
    room_timeout_s: float = 60.0
    """For defragmentation: etcd rewrites its whole file, some 100 MB a second."""
    pads_log: bool = False
    """Bound etcd's log in memory, see etcd_log.py: for the embedded etcd."""
    keepalive_s: float = 10.0
    """Between pings on an idle connection; etcd closes connections with shorter ones."""
    ping_timeout_s: float = 3.0
    """How long a ping may stay unanswered before the connection counts as dead."""
    receive_bytes_max: int = 64 * 1024 * 1024


class Idempotency(Enum):
    """The effect of repeating a call."""

    HARMLESS = auto()
    GUARDED = auto()
    """A transaction: only reading again shows the outcome."""


class EtcdEndpoint:
    """One member: its channel and stubs."""

    def __init__(self, address: str, settings: EtcdSettings) -> None:
        self.tls = settings.tls()
        target, credentials = target_of(address, self.tls)
        options = channel_options(settings, self.tls)
        self.address = target
        self.channel = (
            aio.secure_channel(target, credentials, options=options)
            if credentials
            else aio.insecure_channel(target, options=options)
        )
        self.kv = rpc_pb2_grpc.KVStub(self.channel)
        self.watch = rpc_pb2_grpc.WatchStub(self.channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.auth = rpc_pb2_grpc.AuthStub(self.channel)
        self.cluster = rpc_pb2_grpc.ClusterStub(self.channel)
        self.maintenance = rpc_pb2_grpc.MaintenanceStub(self.channel)


class CallFailed(Exception):
    """A call to one endpoint failed; carries the fault."""

    def __init__(self, fault: CallFault) -> None:
        super().__init__(str(fault.error))
        self.fault = fault


class EtcdEndpoints:
    """The members of one cluster and the credentials for them."""

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise StoreMisuse("etcd endpoints: none given; at least one host:port is needed")
        self.settings = settings
        self._all = [EtcdEndpoint(address, settings) for address in settings.endpoints]
        self._former: deque[EtcdEndpoint] = deque(maxlen=len(self._all))
        """Endpoints with former certificates, on which calls may still run."""
        self._current = 0
        self._token = ""
        self._token_lock = asyncio.Lock()

    def current(self) -> EtcdEndpoint:
        """The endpoint to use now."""
        if not self._all:
            raise StoreMisuse("the store is closed")
        found = self._all[self._current]
        if found.tls is not self.settings.tls():
            self._former.append(found)
            address = self.settings.endpoints[self._current]
            found = self._all[self._current] = EtcdEndpoint(address, self.settings)
        return found

    def leave(self, endpoint: EtcdEndpoint) -> None:
        """This endpoint failed: use the next one, unless another call has changed it already."""
        if self._all and self._all[self._current] is endpoint:
            self._current = (self._current + 1) % len(self._all)

    async def credentials(self, endpoint: EtcdEndpoint) -> Metadata:
        """Metadata with a token, fetched if necessary; empty without a user name.

        Raises CallFailed; the call that needs the token has not been sent then.
        """
        if not self.settings.username:
            return ()
        async with self._token_lock:
            if not self._token:
                self._token = await self._authenticate(endpoint)
            return (("token", self._token),) if self._token else ()

    def drop(self, credentials: Metadata) -> None:
        """This token was refused: fetch another before the next call."""
        if (("token", self._token),) == credentials:
            self._token = ""

    async def call(
        self,
        method: Callable[[EtcdEndpoint], aio.UnaryUnaryMultiCallable[Q, R]],
        request: Q,
        idempotency: Idempotency = Idempotency.HARMLESS,
        timeout_s: float = 0.0,
    ) -> R:
        """Make a call, repeated on the next endpoint as far as its effect allows.

        Raises the error of the last failure; a harmless call is never ambiguous.
        """
        timeout = timeout_s or self.settings.call_timeout_s

        async def once(endpoint: EtcdEndpoint, metadata: Metadata) -> R:
            return await method(endpoint)(request, timeout=timeout, metadata=metadata)

        return await self.attempt(once, idempotency)

    async def attempt(
        self,
        once: Callable[[EtcdEndpoint, Metadata], Coroutine[object, object, R]],
        idempotency: Idempotency = Idempotency.HARMLESS,
    ) -> R:
        """`call` for operations of more than one message."""
        members = len(self._all)
        left = _CYCLES * members
        fresh_token = False
        while True:
            endpoint = self.current()
            try:
                return await self._once(endpoint, once)
            except CallFailed as failed:
                fault = failed.fault
            if fault.kind is FaultKind.REFUSED or (fault.kind is FaultKind.TOKEN and fresh_token):
                raise fault.error
            if fault.kind is FaultKind.LOST and idempotency is Idempotency.GUARDED:
                raise fault.error
            if fault.kind is FaultKind.TOKEN:
                fresh_token = True
                continue
            self.leave(endpoint)
            left -= 1
            if not left:
                raise StoreUnavailable(str(fault.error))
            if left % members == 0:
                await asyncio.sleep(_CYCLE_PAUSE_S)

    async def close(self) -> None:
        """Close every channel; calls in progress are cancelled."""
        endpoints, self._all = [*self._former, *self._all], []
        for endpoint in endpoints:
            await endpoint.channel.close(grace=None)

    async def _once(
        self,
        endpoint: EtcdEndpoint,
        once: Callable[[EtcdEndpoint, Metadata], Coroutine[object, object, R]],
    ) -> R:
        credentials = await self.credentials(endpoint)
        try:
            return await once(endpoint, credentials)
        except grpc.RpcError as error:
            fault = understand(error.code(), error.details(), endpoint.address)
            if fault.kind is FaultKind.TOKEN:
                if not self.settings.username:
                    raise fault.error from None
                self.drop(credentials)
            raise CallFailed(fault) from None

    async def _authenticate(self, endpoint: EtcdEndpoint) -> str:
        request = rpc_pb2.AuthenticateRequest(
            name=self.settings.username, password=self.settings.password
        )
        try:
            answer = await endpoint.auth.Authenticate(request, timeout=AUTHENTICATE_TIMEOUT_S)
        except aio.AioRpcError as error:
            if "authentication is not enabled" in (error.details() or ""):
                return ""
            fault = understand(error.code(), error.details(), endpoint.address)
            if fault.kind is FaultKind.LOST:
                fault = CallFault(FaultKind.UNSENT, fault.error)
            raise CallFailed(fault) from None
        return answer.token


def target_of(address: str, tls: EtcdTls) -> tuple[str, grpc.ChannelCredentials | None]:
    """gRPC's name for an endpoint, and credentials if it uses TLS."""
    scheme, _, path = address.partition(":")
    if scheme in ("unix", "unixs") and path.startswith("/"):
        return f"unix:{path}", _credentials(tls) if scheme == "unixs" else None
    scheme, _, rest = address.rpartition("://")
    rest = rest.rstrip("/")
    if scheme not in ("", "http", "https") or not _is_host_port(rest):
        raise StoreMisuse(
            f"etcd endpoint {quoted(address)} is not valid: expected HOST:PORT, http://… or https://…"
        )
    if scheme == "http" or (not scheme and not (tls.ca_pem or tls.cert_pem)):
        return rest, None
    return rest, _credentials(tls)


def is_exposed(address: str, tls: EtcdTls) -> bool:
    """Whether the network can read and change what is sent to the endpoint: plain, and not within
    this host.
    """
    target, credentials = target_of(address, tls)
    return credentials is None and not (target.startswith("unix:") or is_loopback(target))


def _credentials(tls: EtcdTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        tls.ca_pem or None, tls.key_pem or None, tls.cert_pem or None
    )


def _is_host_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def channel_options(settings: EtcdSettings, tls: EtcdTls) -> list[tuple[str, int | str]]:
    """The options of every channel to a member."""
    name = tls.server_name
    return [
        *((("grpc.ssl_target_name_override", name),) if name else ()),
        ("grpc.max_receive_message_length", settings.receive_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.ping_timeout_s * 1000)),
        # Without this a dead connection is detected only after more than a minute.
        ("grpc.http2.ping_timeout_ms", int(settings.ping_timeout_s * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # This module repeats calls: gRPC cannot know which are harmless twice.
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
