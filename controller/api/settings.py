"""Changes of the fleet's settings, and the key file of the leader that follows them. SHELL."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from controller.api.changes import cluster
from controller.api.changes.cluster import Updated
from controller.leader.leadership import Leader, Mutation
from pyswarm_core.objects import Cluster, Version
from pyswarm_core.specs import ClusterSpec

T = TypeVar("T")


class Submit(Protocol):
    """Makes a change on the leader, as the caller of the request."""

    async def __call__(self, mutation: Mutation[T], /) -> T: ...


class Autolock(Protocol):
    """The key file of this controller; see controller/identity/locking.py."""

    @property
    def draw(self) -> Callable[[], bytes]:
        """Draws an unlock key."""
        ...

    def require_writable(self) -> None:
        """Raise InvalidArgument if the key file cannot be replaced."""
        ...

    async def follow(self, found: Cluster, /) -> None:
        """Return when the key file is as the cluster says."""
        ...


async def update(
    leader: Leader, submit: Submit, autolock: Autolock, based_on: Version, spec: ClusterSpec
) -> Updated:
    """Change the settings; with autolock, return once the leader's key file is encrypted."""
    if spec.autolock != leader.state.cluster.spec.autolock:
        autolock.require_writable()
    told = await submit(
        lambda state, now, ids: cluster.update_cluster(state, based_on, spec, now, autolock.draw)
    )
    await autolock.follow(leader.state.cluster)
    return told


async def rotate_unlock_key(leader: Leader, submit: Submit, autolock: Autolock) -> str:
    """Make another unlock key; return it once the leader's key file is encrypted with it."""
    autolock.require_writable()
    key = await submit(lambda state, now, ids: cluster.rotate_unlock_key(state, now, autolock.draw))
    await autolock.follow(leader.state.cluster)
    return key
