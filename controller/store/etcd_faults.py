"""The meaning of a failed call to etcd: retry, fetch a token, ambiguous, or final.

etcd's errors do not follow gRPC codes systematically, so a few are recognised by their text. An
error counts as ambiguous unless the request is known to have been refused before it took effect.
Decides only, but on gRPC's values, which no pure module imports.
"""

from enum import Enum, auto

import grpc
import msgspec

from controller.store.base import (
    NO_LEASE,
    Compacted,
    LeaseExpired,
    Revision,
    StoreAmbiguous,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMisuse,
    StoreTooLarge,
    StoreUnavailable,
)


class FaultKind(Enum):
    """The reaction to a failed call."""

    UNSENT = auto()
    """It had no effect: another endpoint, or the same one later, may serve it."""
    LOST = auto()
    """It may have taken effect: repeat it only if repeating is harmless."""
    TOKEN = auto()
    """It had no effect; the token is not valid (any more)."""
    REFUSED = auto()
    """It had no effect, and a retry fails as well."""


class CallFault(msgspec.Struct, frozen=True):
    """A classified failure of a call. `error` is raised if the call is not repeated."""

    kind: FaultKind
    error: StoreError


class AnswerTooLarge(StoreTooLarge):
    """The answer exceeds the receive limit: request fewer keys. Or the request exceeds etcd's."""


_UNSENT_TEXTS = (
    "failed to connect to",
    "dns resolution failed",
    "etcdserver: no leader",
    "etcdserver: not capable",
    "etcdserver: too many requests",
    "rpc not supported for learner",
)
"""Refused before etcd processed the request. Compared in lower case."""

_TOKEN_TEXTS = (
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
)

_TLS_EXPECTED = (
    "expected TLS 1.3, or TLS 1.2 with an RSA certificate and ECDHE-RSA-AES128-GCM-SHA256"
)

_DENIED_TEXTS = ("authentication failed", "permission denied")

_TRANSIENT_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DATA_LOSS,
    }
)


def understand(code: grpc.StatusCode, details: str | None, address: str) -> CallFault:
    """The fault of a failed call to this endpoint."""
    text = (details or "").lower()
    said = f"etcd {address}: {details or code.name}"
    if "handshake_failure" in text:
        said = f"etcd {address} accepts no common version and cipher of TLS: {_TLS_EXPECTED}"
    if any(known in text for known in _TOKEN_TEXTS):
        return CallFault(FaultKind.TOKEN, StoreDenied(said))
    if any(known in text for known in _UNSENT_TEXTS):
        return CallFault(FaultKind.UNSENT, StoreUnavailable(said))
    if code in _TRANSIENT_CODES:
        return CallFault(FaultKind.LOST, StoreAmbiguous(said))
    return CallFault(FaultKind.REFUSED, _refusal(code, text, said))


def broken_stream(address: str, why: str) -> CallFault:
    """The fault of a stream that ended or stayed silent without a status."""
    return CallFault(FaultKind.LOST, StoreAmbiguous(f"etcd {address}: {why}"))


def cancelled_watch(reason: str, compact_revision: int, address: str) -> CallFault:
    """The fault of a watch that etcd cancelled, often without a reason. `compact_revision`: 0, or
    the one that the watch's start lies before. An outdated token looks like a lack of permission
    here.
    """
    if compact_revision:
        return CallFault(FaultKind.REFUSED, Compacted(Revision(compact_revision)))
    why = f"the watch was cancelled: {reason or 'no reason given'}"
    text = reason.lower().replace("permissiondenied", "permission denied")
    if any(known in text for known in _TOKEN_TEXTS + _DENIED_TEXTS):
        return CallFault(FaultKind.TOKEN, StoreDenied(f"etcd {address}: {why}"))
    return broken_stream(address, why)


def _refusal(code: grpc.StatusCode, text: str, said: str) -> StoreError:
    if "has been compacted" in text:
        return Compacted(Revision(0))
    if "lease not found" in text:
        return LeaseExpired(NO_LEASE)
    if "database space exceeded" in text:
        return StoreFull(said)
    if code is grpc.StatusCode.PERMISSION_DENIED or any(one in text for one in _DENIED_TEXTS):
        return StoreDenied(said)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in text:
        return AnswerTooLarge(said)
    if "request is too large" in text:
        return StoreTooLarge(said)
    return StoreMisuse(said)
