"""The calls about stacks. SHELL: message in, one use case, message out."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from controller.api.stacking import changes
from controller.api.stacks import read_stack
from controller.grpc.calls import Context, read
from controller.leader.leadership import Leader, Mutation
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.api.v1 import stacks_pb2 as pb
from pyswarm_core.codec import to_proto
from pyswarm_core.stacks.changes import ApplyStack

T = TypeVar("T")


class StackCalls(control_pb2_grpc.ControlServicer):
    """The part of `Control` that is about stacks."""

    _routes: Callable[[], Sequence[str]]

    async def ApplyStack(self, request: pb.ApplyStackRequest, context: Context) -> pb.StackReply:
        leader, routes = self._leader(), self._routes()
        bare = pb.ApplyStackRequest()
        bare.CopyFrom(request)
        bare.ClearField("spec")
        spec = await leader.watches.runner.run(read_stack(request.spec))
        wanted = replace(read(ApplyStack, bare), spec=spec)
        reply = await changes.applied(leader, wanted, routes, self._submit)
        return to_proto(reply, pb.StackReply())

    async def RollbackStack(
        self, request: pb.RollbackStackRequest, context: Context
    ) -> pb.StackReply:
        wanted = changes.Rollback(request.ref, request.to, request.dry_run)
        reply = await changes.rolled_back(self._leader(), wanted, self._routes(), self._submit)
        return to_proto(reply, pb.StackReply())

    async def RemoveStack(self, request: pb.RemoveStackRequest, context: Context) -> pb.StackReply:
        leader, volumes = self._leader(), request.volumes
        reply = await changes.removed(leader, request.ref, self._submit, volumes=volumes)
        return to_proto(reply, pb.StackReply())

    def _leader(self) -> Leader:
        raise NotImplementedError

    async def _submit(self, mutation: Mutation[T]) -> T:
        raise NotImplementedError
