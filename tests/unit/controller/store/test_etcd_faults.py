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
from controller.store.etcd_faults import AnswerTooLarge, Kind, cancelled_watch, understand

Code = grpc.StatusCode

CASES: list[tuple[grpc.StatusCode, str, Kind, type[StoreError]]] = [
    (
        Code.UNAVAILABLE,
        "failed to connect to all addresses; last error: UNKNOWN: refused",
        Kind.UNSENT,
        StoreUnavailable,
    ),
    (Code.UNAVAILABLE, "etcdserver: no leader", Kind.UNSENT, StoreUnavailable),
    (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Kind.UNSENT, StoreUnavailable),
    (Code.UNAVAILABLE, "Socket closed", Kind.LOST, StoreAmbiguous),
    (Code.UNAVAILABLE, "etcdserver: leader changed", Kind.LOST, StoreAmbiguous),
    (Code.UNAVAILABLE, "etcdserver: request timed out", Kind.LOST, StoreAmbiguous),
    (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Kind.LOST, StoreAmbiguous),
    (Code.UNKNOWN, "context deadline exceeded", Kind.LOST, StoreAmbiguous),
    (Code.INTERNAL, "Received RST_STREAM with error code 2", Kind.LOST, StoreAmbiguous),
    (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", Kind.TOKEN, StoreDenied),
    (
        Code.INVALID_ARGUMENT,
        "etcdserver: revision of auth store is old",
        Kind.TOKEN,
        StoreDenied,
    ),
    (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", Kind.TOKEN, StoreDenied),
    (
        Code.INVALID_ARGUMENT,
        "etcdserver: authentication failed, invalid user ID or password",
        Kind.REFUSED,
        StoreDenied,
    ),
    (Code.PERMISSION_DENIED, "etcdserver: permission denied", Kind.REFUSED, StoreDenied),
    (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision has been compacted",
        Kind.REFUSED,
        Compacted,
    ),
    (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
        Kind.REFUSED,
        StoreMisuse,
    ),
    (Code.NOT_FOUND, "etcdserver: requested lease not found", Kind.REFUSED, LeaseExpired),
    (
        Code.RESOURCE_EXHAUSTED,
        "etcdserver: mvcc: database space exceeded",
        Kind.REFUSED,
        StoreFull,
    ),
    (
        Code.RESOURCE_EXHAUSTED,
        "CLIENT: Received message larger than max (5 vs. 4)",
        Kind.REFUSED,
        AnswerTooLarge,
    ),
    (Code.INVALID_ARGUMENT, "etcdserver: request is too large", Kind.REFUSED, StoreTooLarge),
]


@pytest.mark.parametrize(("code", "details", "kind", "error"), CASES)
def test_a_failure_is_sorted(
    code: grpc.StatusCode, details: str, kind: Kind, error: type[StoreError]
) -> None:
    fault = understand(code, details, "10.0.0.1:2379")
    assert fault.kind is kind
    assert type(fault.error) is error


def test_the_text_names_the_endpoint_and_what_it_said() -> None:
    fault = understand(Code.UNAVAILABLE, "Socket closed", "10.0.0.1:2379")
    assert str(fault.error) == "etcd 10.0.0.1:2379: Socket closed"


CANCELLED: list[tuple[str, int, Kind, type[StoreError]]] = [
    ("etcdserver: mvcc: required revision has been compacted", 7, Kind.REFUSED, Compacted),
    (
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        0,
        Kind.TOKEN,
        StoreDenied,
    ),
    (
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        0,
        Kind.TOKEN,
        StoreDenied,
    ),
    ("etcdserver: no leader", 0, Kind.LOST, StoreAmbiguous),
    ("", 0, Kind.LOST, StoreAmbiguous),
]


@pytest.mark.parametrize(("reason", "compact_revision", "kind", "error"), CANCELLED)
def test_a_cancelled_watch_is_sorted(
    reason: str, compact_revision: int, kind: Kind, error: type[StoreError]
) -> None:
    fault = cancelled_watch(reason, compact_revision, "10.0.0.1:2379")
    assert fault.kind is kind
    assert type(fault.error) is error
