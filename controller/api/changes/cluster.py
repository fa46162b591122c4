"""Operators' changes of the fleet's settings. PURE."""

from collections.abc import Callable

import msgspec

from controller.identity.autolock import unlock_key_text
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.docker.units import format_duration
from pyswarm_core.errors import Conflict, invalid
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.objects import Cluster, Version
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.state import State
from pyswarm_core.validation import cluster_problems, require

replace = msgspec.structs.replace
DrawKey = Callable[[], bytes]
"""Draws an unlock key."""

FIXED = {
    "default_address_pool": "--default-addr-pool",
    "subnet_size": "--default-addr-pool-mask-length",
    "data_path_port": "--data-path-port",
}
"""Settings that only `swarm init` sets: networks were made with them."""


class Updated(msgspec.Struct, frozen=True):
    """The answer to an update."""

    cluster: Cluster
    """Without its sensitive fields."""
    unlock_key: str = ""
    """Set if the update set autolock."""
    warnings: tuple[str, ...] = ()


def update_cluster(
    state: State, based_on: Version, spec: ClusterSpec, now: Instant, draw: DrawKey
) -> tuple[Writes, Updated]:
    """The fleet with other settings. The same spec again changes nothing.

    Raises InvalidArgument, Conflict (another update came first).
    """
    old = state.cluster
    require(cluster_problems(spec))
    for name, flag in FIXED.items():
        if (value := getattr(spec, name)) != getattr(old.spec, name):
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            raise invalid(flag, shown, "only swarm init sets it: networks were made with it")
    if based_on.index != old.version.index:
        raise Conflict(
            f"update out of sequence: the cluster is at version {old.version.index}, the update is"
            f" based on {based_on.index}: read it again"
        )
    warnings = _warnings(spec)
    if spec == old.spec:
        return Writes(), Updated(CLUSTER.shown(old), warnings=warnings)
    locks = spec.autolock and not old.spec.autolock
    key = draw() if locks else old.unlock_key if spec.autolock else b""
    version = Version(index=old.version.index + 1)
    cluster = replace(old, spec=spec, version=version, updated_at=now, unlock_key=key)
    told = Updated(CLUSTER.shown(cluster), unlock_key_text(key) if locks else "", warnings)
    return Writes(cluster=cluster), told


def unlock_key(state: State) -> str:
    """The current unlock key. Raises Conflict if autolock is off."""
    if not state.cluster.spec.autolock:
        raise Conflict("no unlock key is set: pyswarm swarm update --autolock makes one")
    return unlock_key_text(state.cluster.unlock_key)


def rotate_unlock_key(state: State, now: Instant, draw: DrawKey) -> tuple[Writes, str]:
    """Another unlock key. Raises Conflict if autolock is off."""
    unlock_key(state)
    key = draw()
    cluster = replace(state.cluster, unlock_key=key, updated_at=now)
    return Writes(cluster=cluster), unlock_key_text(key)


def _warnings(spec: ClusterSpec) -> tuple[str, ...]:
    if spec.cert_expiry >= HOUR:
        return ()
    return (
        f"--cert-expiry {format_duration(spec.cert_expiry)}: hosts that are offline for longer"
        " renew by a proof of their former key (Docker's minimum is 1h0m0s)",
    )
