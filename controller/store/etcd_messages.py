"""Conversion between the store's values and etcd's messages. PURE.

A million tasks pass through here as 4 KB values, 64 to a transaction: no message is built twice and
no more of a reply is read than needed.
"""

from collections.abc import Iterable

from controller.store.base import (
    Compare,
    Delete,
    KeyValue,
    LeaseId,
    Put,
    Revision,
    Txn,
    prefix_end,
)
from pyswarm_core.etcd.v1 import mvcc_pb2, rpc_pb2

_ZERO = b"\x00"
"""As a key the smallest one, as a range's end "no end"."""


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """First key and end of the range that holds exactly the keys with this prefix."""
    return prefix or _ZERO, prefix_end(prefix) or _ZERO


def is_open(range_end: bytes) -> bool:
    """Whether a range with this end has no upper bound."""
    return range_end == _ZERO


def key_after(key: bytes) -> bytes:
    """The smallest key greater than this one."""
    return key + _ZERO


def txn_request(txn: Txn) -> rpc_pb2.TxnRequest:
    """A transaction that does nothing when a compare fails."""
    ops = [_put(put) for put in txn.puts]
    ops += [_delete(delete) for delete in txn.deletes]
    return rpc_pb2.TxnRequest(compare=[_compare(one) for one in txn.compares], success=ops)


def key_value(message: mvcc_pb2.KeyValue) -> KeyValue:
    """A stored key."""
    return KeyValue(
        message.key,
        message.value,
        Revision(message.create_revision),
        Revision(message.mod_revision),
        message.version,
        LeaseId(message.lease),
    )


def key_values(messages: Iterable[mvcc_pb2.KeyValue]) -> list[KeyValue]:
    """Stored keys, in the order given."""
    return [key_value(message) for message in messages]


def _put(put: Put) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(
        request_put=rpc_pb2.PutRequest(key=put.key, value=put.value, lease=put.lease)
    )


def _delete(delete: Delete) -> rpc_pb2.RequestOp:
    key, end = prefix_range(delete.key) if delete.is_prefix else (delete.key, b"")
    return rpc_pb2.RequestOp(
        request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=end)
    )


def _compare(compare: Compare) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(
        key=compare.key,
        result=rpc_pb2.Compare.EQUAL,
        target=rpc_pb2.Compare.MOD,
        mod_revision=compare.mod_revision,
    )
