"""Every way etcd can fail is sorted: what may be repeated, what is ambiguous, what is final."""

import grpc
import pytest

from controller.store.base import (
    Compacted,
    LeaseExpired,
    StoreAmbiguous,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMisuse,
    StoreTooLarge,
    StoreUnavailable,
)
from controller.store.etcd_faults import AnswerTooLarge, FaultKind, cancelled_watch, understand

Code = grpc.StatusCode

CASES: list[tuple[grpc.StatusCode, str, FaultKind, type[StoreError]]] = [
    (
        Code.UNAVAILABLE,
        "failed to connect to all addresses; last error: UNKNOWN: refused",
        FaultKind.UNSENT,
        StoreUnavailable,
    ),
    (Code.UNAVAILABLE, "etcdserver: no leader", FaultKind.UNSENT, StoreUnavailable),
    (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", FaultKind.UNSENT, StoreUnavailable),
    (Code.UNAVAILABLE, "Socket closed", FaultKind.LOST, StoreAmbiguous),
    (Code.UNAVAILABLE, "etcdserver: leader changed", FaultKind.LOST, StoreAmbiguous),
    (Code.UNAVAILABLE, "etcdserver: request timed out", FaultKind.LOST, StoreAmbiguous),
    (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", FaultKind.LOST, StoreAmbiguous),
    (Code.UNKNOWN, "context deadline exceeded", FaultKind.LOST, StoreAmbiguous),
    (Code.INTERNAL, "Received RST_STREAM with error code 2", FaultKind.LOST, StoreAmbiguous),
    (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", FaultKind.TOKEN, StoreDenied),
    (
        Code.INVALID_ARGUMENT,
        "etcdserver: revision of auth store is old",
        FaultKind.TOKEN,
        StoreDenied,
    ),
    (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", FaultKind.TOKEN, StoreDenied),
    (
        Code.INVALID_ARGUMENT,
        "etcdserver: authentication failed, invalid user ID or password",
        FaultKind.REFUSED,
        StoreDenied,
    ),
    (Code.PERMISSION_DENIED, "etcdserver: permission denied", FaultKind.REFUSED, StoreDenied),
    (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision has been compacted",
        FaultKind.REFUSED,
        Compacted,
    ),
    (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
        FaultKind.REFUSED,
        StoreMisuse,
    ),
    (Code.NOT_FOUND, "etcdserver: requested lease not found", FaultKind.REFUSED, LeaseExpired),
    (
        Code.RESOURCE_EXHAUSTED,
        "etcdserver: mvcc: database space exceeded",
        FaultKind.REFUSED,
        StoreFull,
    ),
    (
        Code.RESOURCE_EXHAUSTED,
        "CLIENT: Received message larger than max (5 vs. 4)",
        FaultKind.REFUSED,
        AnswerTooLarge,
    ),
    (Code.INVALID_ARGUMENT, "etcdserver: request is too large", FaultKind.REFUSED, StoreTooLarge),
]


@pytest.mark.parametrize(("code", "details", "kind", "error"), CASES)
def test_a_failure_is_sorted(
    code: grpc.StatusCode, details: str, kind: FaultKind, error: type[StoreError]
) -> None:
    fault = understand(code, details, "10.0.0.1:2379")
    assert fault.kind is kind
    assert type(fault.error) is error


def test_the_text_names_the_endpoint_and_what_it_said() -> None:
    fault = understand(Code.UNAVAILABLE, "Socket closed", "10.0.0.1:2379")
    assert str(fault.error) == "etcd 10.0.0.1:2379: Socket closed"


CANCELLED: list[tuple[str, int, FaultKind, type[StoreError]]] = [
    ("etcdserver: mvcc: required revision has been compacted", 7, FaultKind.REFUSED, Compacted),
    (
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        0,
        FaultKind.TOKEN,
        StoreDenied,
    ),
    (
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        0,
        FaultKind.TOKEN,
        StoreDenied,
    ),
    ("etcdserver: no leader", 0, FaultKind.LOST, StoreAmbiguous),
    ("", 0, FaultKind.LOST, StoreAmbiguous),
]


@pytest.mark.parametrize(("reason", "compact_revision", "kind", "error"), CANCELLED)
def test_a_cancelled_watch_is_sorted(
    reason: str, compact_revision: int, kind: FaultKind, error: type[StoreError]
) -> None:
    fault = cancelled_watch(reason, compact_revision, "10.0.0.1:2379")
    assert fault.kind is kind
    assert type(fault.error) is error
