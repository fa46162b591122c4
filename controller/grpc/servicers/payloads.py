"""The calls about secrets and configs, of users and of agents. SHELL: message in, one use case,
message out.
"""

from typing import Any, TypeVar

from controller.api.payloads import changes
from controller.api.payloads.references import fetched
from controller.api.queries import views
from controller.grpc.calls import Context, read
from controller.grpc.peers import calling_node
from controller.leader.leadership import Mutation
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.state import State

T = TypeVar("T")


class PayloadCalls(control_pb2_grpc.ControlServicer):
    """The part of `Control` that is about secrets and configs."""

    async def CreateSecret(
        self, request: pb.CreatePayloadRequest, context: Context
    ) -> pb.EncodedObject:
        return await self._create(SECRET, request)

    async def CreateConfig(
        self, request: pb.CreatePayloadRequest, context: Context
    ) -> pb.EncodedObject:
        return await self._create(CONFIG, request)

    async def UpdateSecret(
        self, request: pb.UpdatePayloadRequest, context: Context
    ) -> pb.UpdatePayloadReply:
        return await self._update(SECRET, request)

    async def UpdateConfig(
        self, request: pb.UpdatePayloadRequest, context: Context
    ) -> pb.UpdatePayloadReply:
        return await self._update(CONFIG, request)

    async def _create(
        self, kind: Kind[Any, Any], request: pb.CreatePayloadRequest
    ) -> pb.EncodedObject:
        new = changes.New(read(PayloadSpec, request.spec), request.data)
        made = await self._submit(
            lambda state, now, ids: changes.create_payload(state, kind, new, now, ids)
        )
        return to_proto(views.encoded(kind, made), pb.EncodedObject())

    async def _update(
        self, kind: Kind[Any, Any], request: pb.UpdatePayloadRequest
    ) -> pb.UpdatePayloadReply:
        kept = request.keep_versions if request.HasField("keep_versions") else None
        update = changes.Update(request.ref, request.data, kept, request.reload)
        made = await self._submit(
            lambda state, now, ids: changes.update_payload(state, kind, update, now, ids)
        )
        shown = to_proto(views.encoded(kind, made.payload), pb.EncodedObject())
        return pb.UpdatePayloadReply(object=shown, services=made.services)

    async def _submit(self, mutation: Mutation[T]) -> T:
        raise NotImplementedError


class PayloadsOfNodes(dispatcher_pb2_grpc.DispatcherServicer):
    """The part of `Dispatcher` that sends secrets and configs to the nodes that use them."""

    async def FetchPayload(
        self, request: dispatcher_pb2.FetchPayloadRequest, context: Context
    ) -> dispatcher_pb2.FetchPayloadReply:
        state = self._current_state()
        node = calling_node(state, context)
        found = fetched(state, node.id, request.kind, request.id, request.task_id)
        return dispatcher_pb2.FetchPayloadReply(
            data=found.data, template=found.spec.templating is not None
        )

    def _current_state(self) -> State:
        raise NotImplementedError
