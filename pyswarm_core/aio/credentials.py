"""One factory for the channels to controllers: TLS 1.3 with both sides verified. SHELL.

A caller has a certificate of the fleet's CA, or the guest certificate and a token. A controller's
Unix socket needs neither: its file says who may open it.
"""

from collections.abc import Sequence
from typing import Literal, overload

import grpc
import msgspec

from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.trust import GUEST_KEY_PEM, SERVER_NAME, Trust

_SERVER_NAME = ("grpc.ssl_target_name_override", SERVER_NAME)


class ClientCredentials(msgspec.Struct, frozen=True):
    """What a client shows, and what it requires of a controller. PEM, as in files."""

    ca_pem: bytes
    """The root certificate of the fleet."""
    cert_pem: bytes
    """The client's certificate, followed by what lies between it and the root."""
    key_pem: bytes
    token: str = ""
    """Bearer token, sent with every call."""

    def __repr__(self) -> str:
        """Without the key and the token, which would get into logs."""
        return "ClientCredentials(...)"


def guest(trust: Trust, token: str = "") -> ClientCredentials:
    """The credentials of a caller without a certificate of its own."""
    return ClientCredentials(trust.root_pem, trust.guest_pem, GUEST_KEY_PEM, token)


def is_local(target: str) -> bool:
    """Whether it is a Unix socket, whose file's mode replaces TLS."""
    return target.startswith("unix:")


Options = Sequence[tuple[str, int]]


@overload
def channel(
    target: str,
    credentials: ClientCredentials | None,
    *,
    aio: Literal[True],
    options: Options = CHANNEL_OPTIONS,
) -> "grpc.aio.Channel": ...
@overload
def channel(
    target: str,
    credentials: ClientCredentials | None,
    *,
    aio: Literal[False],
    options: Options = CHANNEL_OPTIONS,
) -> grpc.Channel: ...
def channel(
    target: str,
    credentials: ClientCredentials | None,
    *,
    aio: bool,
    options: Options = CHANNEL_OPTIONS,
) -> "grpc.aio.Channel | grpc.Channel":
    """A channel to the controller at `unix:///PATH`, or HOST:PORT, which needs credentials.

    The credentials of a channel are fixed: renewed ones need a new channel. Raises InvalidArgument
    if there are none for HOST:PORT.
    """
    if is_local(target):
        plain = grpc.aio.insecure_channel if aio else grpc.insecure_channel
        return plain(target, options=tuple(options))
    if credentials is None:
        raise InvalidArgument(f"no credentials for {target}: expected a certificate or a token")
    secure = grpc.aio.secure_channel if aio else grpc.secure_channel
    return secure(target, _channel_credentials(credentials), options=(*options, _SERVER_NAME))


def _channel_credentials(credentials: ClientCredentials) -> grpc.ChannelCredentials:
    tls = grpc.ssl_channel_credentials(
        credentials.ca_pem, credentials.key_pem, credentials.cert_pem
    )
    if not credentials.token:
        return tls
    bearer = grpc.access_token_call_credentials(credentials.token)
    return grpc.composite_channel_credentials(tls, bearer)
