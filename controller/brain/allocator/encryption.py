"""The keys of encrypted networks: when they are made, replaced and deleted. PURE.

A key is used for ENCRYPTION_KEY_PERIOD, or until a host has sent too many packets with it. The two
keys before it are kept, so that packets of a host without the newest key can be decrypted.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2s

from msgspec.structs import replace

from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import IdSource
from pyswarm_core.limits import (
    ENCRYPTION_KEY_PERIOD,
    ENCRYPTION_KEY_PERIOD_MIN,
    ENCRYPTION_KEYS_KEPT,
)
from pyswarm_core.objects import Cluster, Network
from pyswarm_core.state import State

SECRET_BYTES = 20
"""AES-128's key and RFC 4106's salt."""


def with_first_key(cluster: Cluster, now: Instant, ids: IdSource) -> Cluster:
    """The cluster with a key; the same if it has one."""
    return cluster if cluster.encryption_keys else _with_new_key(cluster, now, ids)


def rotates_at(cluster: Cluster) -> Instant:
    """When the newest key is due for replacement; NEVER if no network is encrypted."""
    keys = cluster.encryption_keys
    return after(keys[0].created_at, ENCRYPTION_KEY_PERIOD) if keys else NEVER


def rotated(cluster: Cluster, now: Instant, ids: IdSource) -> Cluster | None:
    """The cluster with the next key; None if it is not due."""
    return _with_new_key(cluster, now, ids) if rotates_at(cluster) <= now else None


def replaced(cluster: Cluster, worn: int, now: Instant, ids: IdSource) -> Cluster | None:
    """The cluster with the next key before it is due, because a host can send few more packets with
    key number `worn`; None if hosts send with newer keys by now, or if the newest key is younger
    than ENCRYPTION_KEY_PERIOD_MIN.
    """
    in_use = [key.number for key in cluster.encryption_keys[:2]]
    if worn not in in_use:
        return None
    known_at = after(cluster.encryption_keys[0].created_at, ENCRYPTION_KEY_PERIOD_MIN)
    return _with_new_key(cluster, now, ids) if known_at <= now else None


def renewal(worn: int) -> Callable[[State, Instant, IdSource], tuple[Writes, None]]:
    """The mutation that replaces key number `worn` early, if `replaced` says so."""

    def renew(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        return Writes(cluster=replaced(state.cluster, worn, now, ids)), None

    return renew


def rekeyed(state: State, writes: Writes) -> Iterable[Network]:
    """The networks whose nodes need the new keys once this is written."""
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
