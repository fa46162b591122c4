"""The keys of encrypted networks: when they are made, replaced and forgotten. PURE.

A key serves for KEY_PERIOD. The two before it are kept, so that a host that has not heard of the
newest can still be understood.
"""

from collections.abc import Iterable
from hashlib import blake2s

from msgspec.structs import replace

from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.limits import ENCRYPTION_KEY_PERIOD, ENCRYPTION_KEYS_KEPT
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
