"""What a failed call to etcd means: retry, fetch a token, ambiguous, or never again.

etcd spreads its errors over gRPC codes with little system, so a few are told apart by their text.
Whatever is not known to have been refused before it took effect counts as ambiguous. Decides only,
but in the words of gRPC, which no pure module imports.
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
    """What to do about a failed call."""

    UNSENT = auto()
    """Nothing happened: another endpoint, or later, may serve it."""
    LOST = auto()
    """It may have happened: repeat it only if repeating is harmless."""
    TOKEN = auto()
    """Nothing happened; the token is not valid (any more)."""
    REFUSED = auto()
    """Nothing happened and asking again will not help."""


class CallFault(msgspec.Struct, frozen=True):
    """A failed call, understood. `error` is what to raise when it is not repeated."""

    kind: FaultKind
    error: StoreError


class AnswerTooLarge(StoreTooLarge):
    """The answer exceeds what we receive: ask for fewer keys. Or the request what etcd receives."""


_UNSENT_TEXTS = (
    "failed to connect to",
    "dns resolution failed",
    "etcdserver: no leader",
    "etcdserver: not capable",
    "etcdserver: too many requests",
    "rpc not supported for learner",
)
"""Refused before etcd looked at the request. Seen in lower case."""

_TOKEN_TEXTS = (
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
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
    """What the failure of a call to this endpoint means."""
    text = (details or "").lower()
    said = f"etcd {address}: {details or code.name}"
    if any(known in text for known in _TOKEN_TEXTS):
        return CallFault(FaultKind.TOKEN, StoreDenied(said))
    if any(known in text for known in _UNSENT_TEXTS):
        return CallFault(FaultKind.UNSENT, StoreUnavailable(said))
    if code in _TRANSIENT_CODES:
        return CallFault(FaultKind.LOST, StoreAmbiguous(said))
    return CallFault(FaultKind.REFUSED, _refusal(code, text, said))


def broken_stream(address: str, why: str) -> CallFault:
    """A stream that ended or stayed silent without a status."""
    return CallFault(FaultKind.LOST, StoreAmbiguous(f"etcd {address}: {why}"))


def cancelled_watch(reason: str, compact_revision: int, address: str) -> CallFault:
    """A watch that etcd cancelled, for a reason it may not give. `compact_revision`: 0, or the one
    that the watch's start lies before. An outdated token looks like a lack of permission here.
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
