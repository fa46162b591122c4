"""The keys of encrypted networks: when they are made, replaced and forgotten. PURE.

A key serves for KEY_PERIOD, or until a host has sent too much with it. The two before it are kept,
so that a host that has not heard of the newest can still be understood.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2s

from msgspec.structs import replace

from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.limits import (
    ENCRYPTION_KEY_PERIOD,
    ENCRYPTION_KEY_PERIOD_MIN,
    ENCRYPTION_KEYS_KEPT,
)
from pyswarm_core.objects import Cluster, EncryptionKey, Network
from pyswarm_core.state import State

SECRET_BYTES = 20
"""AES-128's key and RFC 4106's salt."""


def with_first_key(cluster: Cluster, now: Instant, ids: IdSource) -> Cluster:
    """The cluster with a key; the same if it has one."""
    return cluster if cluster.encryption_keys else _with_new_key(cluster, now, ids)


def rotates_at(cluster: Cluster) -> Instant:
    """When the newest key has served its time; NEVER if nothing is encrypted."""
    keys = cluster.encryption_keys
    return after(keys[0].created_at, ENCRYPTION_KEY_PERIOD) if keys else NEVER


def rotated(cluster: Cluster, now: Instant, ids: IdSource) -> Cluster | None:
    """The cluster with the next key; None if it is not time."""
    return _with_new_key(cluster, now, ids) if rotates_at(cluster) <= now else None


def replaced(cluster: Cluster, worn: int, now: Instant, ids: IdSource) -> Cluster | None:
    """The cluster with the next key, before its time, because of a host that can send few packets
    more by the key of that number; None if others are sent with by now, or nobody may be asked yet
    to send with the newest.
    """
    in_use = [key.number for key in cluster.encryption_keys[:2]]
    if worn not in in_use:
        return None
    known_at = after(cluster.encryption_keys[0].created_at, ENCRYPTION_KEY_PERIOD_MIN)
    return _with_new_key(cluster, now, ids) if known_at <= now else None


def renewal(worn: int) -> Callable[[State, Instant, IdSource], tuple[Writes, None]]:
    """The mutation that replaces the key of that number before its time, if it is to be."""

    def renew(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        return Writes(cluster=replaced(state.cluster, worn, now, ids)), None

    return renew


def rekeyed(state: State, writes: Writes) -> Iterable[Network]:
    """The networks whose nodes are to be told of other keys once this is written."""
    if writes.cluster is None or writes.cluster.encryption_keys == state.cluster.encryption_keys:
        return ()
    return [network for network in state.networks.values() if network.spec.encrypted]


def _with_new_key(cluster: Cluster, now: Instant, ids: IdSource) -> Cluster:
    old = cluster.encryption_keys
    # Two ids are 250 random bits, more than the secret has.
    material = "".join(ids.draw(2)).encode()
    key = EncryptionKey(
        number=old[0].number + 1 if old else 1,
        secret=blake2s(material, digest_size=SECRET_BYTES, person=b"pyswkey").digest(),
        created_at=now,
    )
    return replace(cluster, encryption_keys=(key, *old[: ENCRYPTION_KEYS_KEPT - 1]))
