"""A connection to a controller: how each call is made, and what its failure is. SHELL.

`cli/client.py` has the calls. Every call raises PyswarmError only, with one line of text: the
controller's error, or that it cannot be reached and what to do. A stream is cancelled when its
iterator is closed; closing the connection cancels all.
"""

import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

from cli.calls.parts import whole
from cli.context.model import Context, checked
from cli.errors import NoAnswer, Unreachable
from pyswarm_core.aio.credentials import channel
from pyswarm_core.aio.status import error_of
from pyswarm_core.api.v1.control_pb2_grpc import ControlStub
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import NO_LEADER, PyswarmError, Unavailable

CALL_TIMEOUT_S = 30.0
"""Time limit of a call with one answer; a controller that leads answers in milliseconds."""
IMAGES_TIMEOUT_S = 120.0
"""Time limit of a call that waits for every node."""
RESTART_TIMEOUT_S = 4.0
"""Time to wait for a controller that was killed; it answers again after about two seconds."""
LEADER_POLL_S = 0.2
"""Pause between attempts while there is no leader. A controller that was paused, or loads its
state, leads after about two seconds.
"""
STREAM_TIMEOUT_S = 7 * 86_400.0
"""Time limit of a stream; keepalive ends a dead connection long before."""

_TRANSPORT = (
    "failed to connect",
    "errors resolving",
    "dns resolution failed",
    "socket closed",
    "connection reset",
)
"""Prefixes of gRPC's own errors when there is no connection."""
_SILENT = ("stream removed", "ping timeout", "keepalive watchdog")
"""Prefixes of its errors when the server accepted the request and stopped answering pings."""

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
S = TypeVar("S", bound=msgspec.Struct)


def _was_never_sent(error: grpc.RpcError) -> bool:
    return (error.details() or "").lower().startswith("failed to connect")


def _waits_for_a_leader(error: grpc.RpcError) -> bool:
    """Whether the call did nothing because there is no leader; then returns after a pause."""
    if NO_LEADER not in (error.details() or ""):
        return False
    time.sleep(LEADER_POLL_S)
    return True


class Connection:
    """A connection to a controller, opened on first use. `fleet`: unix:///PATH or a context."""

    def __init__(self, fleet: str | Context) -> None:
        self.context = Context(name="", host=fleet) if isinstance(fleet, str) else fleet
        self.host = checked(self.context.host)
        self.has_answer = False
        """Whether the controller has answered a call."""
        self.is_outdated = False
        """Whether the caller's certificate is of a former root."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def _channel(self) -> grpc.Channel:
        if self.context.is_local:
            return channel(self.host, None, aio=False)
        from cli.context.credentials import credentials_of

        return channel(self.host, credentials_of(self.context, RESTART_TIMEOUT_S), aio=False)

    @cached_property
    def _stub(self) -> ControlStub:
        return ControlStub(self._channel)

    def close(self) -> None:
        """Close the connection and cancel its streams."""
        if "_channel" in vars(self):
            self._channel.close()

    def _ask(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Q, A] | whole[Q, A]",
        request: Q,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> A:
        give_up_at = time.monotonic() + RESTART_TIMEOUT_S
        while True:
            try:
                reply, call = method.with_call(request, timeout=timeout_s)
                self._note(call)
                return reply
            except grpc.RpcError as error:
                late = time.monotonic() >= give_up_at
                if late or not (_waits_for_a_leader(error) or self._is_back(error)):
                    raise self.error(error, timeout_s) from None

    def _begin(
        self, method: "whole[Q, A]", request: Q, timeout_s: float = CALL_TIMEOUT_S
    ) -> Callable[[], A]:
        """Send a request now; what is returned waits for the answer, as `_ask`."""
        begun = method.begun(request, timeout_s)
        return lambda: self._ask(begun, request, timeout_s)

    def _note(self, call: grpc.Call) -> None:
        """The controller has answered."""
        self.has_answer = True
        if not self.context.is_local:  # a socket has no certificates
            from pyswarm_core.identity.trust import OUTDATED_KEY

            self.is_outdated |= OUTDATED_KEY in dict(call.trailing_metadata() or ())

    def _is_back(self, error: grpc.RpcError) -> bool:
        """Whether a request that was never sent can be sent now: a killed controller restarts."""
        if not _was_never_sent(error) or not self._may_return():
            return False
        if self._is_refused(error):
            from cli import diagnosis

            time.sleep(LEADER_POLL_S)
            return diagnosis.cause(self.context) is None
        try:
            grpc.channel_ready_future(self._channel).result(timeout=RESTART_TIMEOUT_S)
        except grpc.FutureTimeoutError:
            return False
        return True

    def _is_refused(self, error: grpc.RpcError) -> bool:
        """Whether the TLS handshake failed, on either side."""
        if self.context.is_local or not _was_never_sent(error):
            return False
        from cli import diagnosis

        return diagnosis.is_handshake(error.details() or "")

    def _may_return(self) -> bool:
        """Without its file a socket has no controller; with it, it had one recently."""
        return not self.host.startswith("unix://") or Path(self.host[7:]).exists()

    def _stream(
        self, cls: type[S], method: "grpc.UnaryStreamMultiCallable[Q, A]", request: Q
    ) -> Iterator[S]:
        call = method(request, timeout=STREAM_TIMEOUT_S)
        try:
            for message in call:
                yield from_proto(cls, message)
        except grpc.RpcError as error:
            raise self.error(error, STREAM_TIMEOUT_S) from None
        finally:
            call.cancel()  # type: ignore[no-untyped-call]

    def error(self, error: grpc.RpcError, timeout_s: float) -> PyswarmError:
        code = error.code()
        details = (error.details() or "").lower()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return NoAnswer(f"no answer from {self.host} within {timeout_s:g} s")
        if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_SILENT):
            return NoAnswer(
                f"no answer from {self.host}: it accepted the request and stopped answering"
            )
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return Unavailable(
                f"the controller at {self.host} does not support this command: upgrade it"
            )
        if self._is_refused(error):
            from cli import diagnosis

            return diagnosis.cause(self.context) or diagnosis.unexplained(self.context)
        if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_TRANSPORT):
            return Unreachable(
                f"cannot reach a controller at {self.host}: is it running? "
                "`pyswarm swarm init` starts one, --host or PYSWARM_HOST names another"
            )
        return error_of(error)
