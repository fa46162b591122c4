"""The credentials of a context for a channel. SHELL: reads the guest certificate for a token."""

import time

from cli.context.model import Context
from cli.errors import Unreachable
from pyswarm_core.aio.credentials import ClientCredentials, guest
from pyswarm_core.aio.handshake import NoConnection, fetch_chain
from pyswarm_core.errors import InvalidArgument, PermissionDenied, quoted
from pyswarm_core.identity.tokens import digest_of, parse_user_token
from pyswarm_core.identity.trust import Trust, roots_of

_PAUSE_S = 0.2


def credentials_of(context: Context, patience_s: float = 0.0) -> ClientCredentials | None:
    """None for a socket. For `patience_s` a controller that refuses connections may return.

    Raises PermissionDenied if there are none, or the controller is of another fleet;
    InvalidArgument for a token that is not valid; Unavailable.
    """
    material = context.material
    if context.is_local:
        return None
    if material.token:
        return _guest(context, patience_s)
    if material.ca and material.cert and material.key:
        return ClientCredentials(
            material.ca.encode(), material.cert.encode(), material.key.encode()
        )
    raise PermissionDenied(missing(context))


def missing(context: Context) -> str:
    """Why there are no credentials, and what to do."""
    host = context.host
    command = f"`pyswarm context create NAME --pyswarm host={host},token=TOKEN`"
    if context.name:
        command = f"`pyswarm context update {context.name} --pyswarm host={host},token=TOKEN`"
    owner = f"context {quoted(context.name)} has" if context.name else "there are"
    return (
        f"{owner} no credentials for {host}: {command} stores a token, which `pyswarm user token`"
        " makes on a controller's host; PYSWARM_TOKEN has one for a single command"
    )


def _guest(context: Context, patience_s: float) -> ClientCredentials:
    token = parse_user_token(context.material.token)
    ca = context.material.ca
    if ca and token.digest not in map(digest_of, roots_of(ca, "the context's CA")):
        raise InvalidArgument(
            "the token is of another fleet than the CA (ca= or PYSWARM_CA): the digest in the token"
            " is not that of the certificate"
        )
    return guest(_trust(context.host, token.digest, patience_s), str(token))


def _trust(host: str, digest: str, patience_s: float) -> Trust:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fetch_chain(host, digest)
        except NoConnection as error:
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"cannot reach a controller at {host} ({error}): is it running?"
                ) from None
        time.sleep(_PAUSE_S)
