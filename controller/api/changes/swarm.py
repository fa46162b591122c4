"""Changes of the cluster's CA and join token. PURE."""

from controller.identity import rotation
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.state import State
from pyswarm_core.views import Ca


def rotate_ca(state: State, now: Instant) -> tuple[Writes, None]:
    """Begin a rotation. Raises Conflict during another one."""
    return Writes(cluster=rotation.begun(state.cluster, now)), None


def end_rotation(state: State, now: Instant) -> tuple[Writes, None]:
    """End the rotation, if it may end by now."""
    return Writes(cluster=rotation.ended(state, now)), None


def rotate_join_token(state: State, now: Instant, ids: IdSource) -> tuple[Writes, str]:
    """Replace the join token; returns the new one."""
    (secret,) = ids.draw(1)
    cluster = rotation.with_new_token(state.cluster, secret, now)
    return Writes(cluster=cluster), cluster.worker_token


def show_ca(state: State) -> Ca:
    """The newest root, and how far a rotation is."""
    return rotation.progress(state)
