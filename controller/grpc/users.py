"""The calls about users, and how every call of users reaches the leader. SHELL."""

import hashlib
import secrets
from typing import TypeVar

from controller.api.changes import users
from controller.grpc.auditing import current_verb
from controller.grpc.callers import checked, current_caller
from controller.grpc.calls import Context, read
from controller.identity.cluster import root_digest, user_certificate
from controller.leader.leadership import Leader, Leadership, Mutation
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, objects_pb2
from pyswarm_core.clock import Clock
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.identity.tokens import SECRET_MAX, UserToken, secret_of
from pyswarm_core.identity.users import User, UserSpec
from pyswarm_core.kinds import USER
from pyswarm_core.objects import Version

T = TypeVar("T")


class UserCalls(control_pb2_grpc.ControlServicer):
    """Serves users and admins of the API: the part of `Control` that is about users."""

    def __init__(self, leadership: Leadership, clock: Clock) -> None:
        self._leadership = leadership
        self._clock = clock

    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.UserReply:
        spec = read(UserSpec, request.spec)
        return _user(
            await self._submit(lambda state, now, ids: users.create_user(state, spec, now, ids))
        )

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.UserReply:
        spec, based_on = read(UserSpec, request.spec), read(Version, request.version)
        return _user(
            await self._submit(
                lambda state, now, ids: users.update_user(state, request.ref, based_on, spec, now)
            )
        )

    async def CreateUserToken(
        self, request: pb.CreateUserTokenRequest, context: Context
    ) -> pb.CreateUserTokenReply:
        digest = root_digest(self._leader().state.cluster)
        secret = secret_of(secrets.randbelow(SECRET_MAX))
        hashed = hashlib.sha256(secret.encode()).hexdigest()
        new = users.NewToken(request.ref, hashed, request.lifetime, request.description)
        token = await self._submit(lambda state, now, ids: users.create_token(state, new, now, ids))
        return pb.CreateUserTokenReply(
            token=str(UserToken(digest, token.id, secret)),
            token_id=token.id,
            expires_at=token.expires_at,
        )

    async def ListUserTokens(
        self, request: pb.RefRequest, context: Context
    ) -> pb.ListUserTokensReply:
        tokens = users.tokens_of(self._leader().state, request.ref)
        shown = [to_proto(token, objects_pb2.UserToken()) for token in tokens]
        return pb.ListUserTokensReply(tokens=shown)

    async def RemoveUserToken(
        self, request: pb.RemoveUserTokenRequest, context: Context
    ) -> pb.RemoveUserTokenReply:
        token = await self._submit(
            lambda state, now, ids: users.remove_token(state, request.ref, request.token, now)
        )
        return pb.RemoveUserTokenReply(token_id=token.id)

    async def IssueUserCertificate(
        self, request: pb.IssueUserCertificateRequest, context: Context
    ) -> pb.IssueUserCertificateReply:
        caller = current_caller()
        user, token = await self._submit(
            lambda state, now, ids: (Writes(), users.certified(state, request.ref, caller))
        )
        cluster, csr = self._leader().state.cluster, request.csr.encode()
        chain = user_certificate(cluster, user.id, csr, self._clock.now(), token)
        return pb.IssueUserCertificateReply(chain=chain, user_id=user.id)

    def _leader(self) -> Leader:
        return self._leadership.current()

    async def _submit(self, mutation: Mutation[T]) -> T:
        return await self._leader().submit(checked(mutation), current_caller(), current_verb())


def _user(user: User) -> pb.UserReply:
    return pb.UserReply(user=to_proto(USER.shown(user), objects_pb2.User()))
