"""The calls about copies of volumes. SHELL: message in, one use case, message out."""

from collections.abc import Sequence

from controller.api.changes.moving.lost import forget_copy
from controller.api.changes.moving.moves import cancel_moves
from controller.api.moves import move
from controller.api.queries import views
from controller.api.queries.moves import moves
from controller.grpc.calls import Context
from controller.grpc.users import UserCalls
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import moving_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import VOLUME
from pyswarm_core.volumes.volume import Volume


class VolumeCalls(UserCalls):
    """The part of `Control` that is about copies of volumes."""

    async def MoveVolume(
        self, request: moving_pb2.MoveVolumeRequest, context: Context
    ) -> moving_pb2.VolumeMovesReply:
        refs, to, force = tuple(request.refs), request.to, request.force
        return self._moves(await move(self._submit, refs, to, force=force))

    async def CancelVolumeMove(
        self, request: moving_pb2.VolumesRequest, context: Context
    ) -> moving_pb2.VolumeMovesReply:
        refs = tuple(request.refs)
        return self._moves(
            await self._submit(lambda state, now, ids: cancel_moves(state, refs, now))
        )

    async def GetVolumeMoves(
        self, request: moving_pb2.VolumesRequest, context: Context
    ) -> moving_pb2.VolumeMovesReply:
        return self._reply(request.refs)

    async def ForgetVolume(
        self, request: moving_pb2.ForgetVolumeRequest, context: Context
    ) -> pb.EncodedObject:
        ref, node, force = request.ref, request.node, request.force
        volume = await self._submit(
            lambda state, now, ids: forget_copy(state, ref, node, now, force=force)
        )
        return to_proto(views.encoded(VOLUME, volume), pb.EncodedObject())

    def _moves(self, volumes: Sequence[Volume]) -> moving_pb2.VolumeMovesReply:
        return self._reply([one.id for one in volumes])

    def _reply(self, refs: Sequence[str]) -> moving_pb2.VolumeMovesReply:
        leader = self._leader()
        found = moves(leader.state, refs, leader.moves, self._clock.now())
        return moving_pb2.VolumeMovesReply(
            moves=[to_proto(one, moving_pb2.VolumeMove()) for one in found]
        )
