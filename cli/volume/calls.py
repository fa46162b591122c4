"""The controller's calls about copies of volumes. SHELL."""

from collections.abc import Sequence

from cli.client import Client
from pyswarm_core.api.v1 import moving_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.kinds import VOLUME
from pyswarm_core.volumes.moves import VolumeMove
from pyswarm_core.volumes.volume import Volume


def move(client: Client, refs: Sequence[str], to: str, *, force: bool) -> list[VolumeMove]:
    """Begin to move volumes, all or none. Raises Conflict with what hinders it."""
    request = moving_pb2.MoveVolumeRequest(refs=refs, to=to, force=force)
    return _read(client._ask(client._stub.MoveVolume, request))


def cancel(client: Client, refs: Sequence[str]) -> list[VolumeMove]:
    """End the moves of volumes. Raises Conflict if one is not being moved."""
    request = moving_pb2.VolumesRequest(refs=refs)
    return _read(client._ask(client._stub.CancelVolumeMove, request))


def moves(client: Client, refs: Sequence[str]) -> list[VolumeMove]:
    """How far the moves of volumes are."""
    request = moving_pb2.VolumesRequest(refs=refs)
    return _read(client._ask(client._stub.GetVolumeMoves, request))


def forget(client: Client, ref: str, node: str, *, force: bool) -> Volume:
    """Give up the copy on a node. Raises Conflict if that is ready and `force` is not set."""
    request = moving_pb2.ForgetVolumeRequest(ref=ref, node=node, force=force)
    return VOLUME.decode(client._ask(client._stub.ForgetVolume, request).value)


def _read(reply: moving_pb2.VolumeMovesReply) -> list[VolumeMove]:
    return [from_proto(VolumeMove, one) for one in reply.moves]
