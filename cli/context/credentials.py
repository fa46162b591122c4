"""The credentials of a context for a channel, and their renewal. SHELL.

For a token it reads the guest certificate. A certificate is renewed at the end of a command, on its
connection, which goes on if the end of a rotation of the CA made the certificate worthless
meanwhile. Until that is due it costs nothing: `cryptography` is imported then.
"""

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cli.context import store
from cli.context.model import Context
from cli.errors import Unreachable
from pyswarm_core.aio.credentials import ClientCredentials, guest
from pyswarm_core.aio.handshake import NoConnection, fetch_chain
from pyswarm_core.errors import InvalidArgument, PermissionDenied, PyswarmError, quoted
from pyswarm_core.identity.tokens import digest_of, parse_user_token
from pyswarm_core.identity.trust import Trust, roots_of

if TYPE_CHECKING:
    from cli.calls.connection import Connection

_PAUSE_S = 0.2
_BEGIN = "-----BEGIN CERTIFICATE-----"


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


def after_command(context: Context, connection: "Connection") -> None:
    """Renew the context's certificate if half of its life is over or it is of a former root.

    An error is no error of the command: a later command tries again.
    """
    if sys.exc_info()[0] is not None or not connection.has_answer or not context.name:
        return
    is_rotating = context.material.ca.count(_BEGIN) > 1
    if not connection.is_outdated and not is_rotating and time.time() < context.renews_at:
        return
    with suppress(PyswarmError, OSError):
        _renew(context.name, context.material.cert, connection)


def _renew(name: str, cert: str, connection: "Connection") -> None:
    from cli.client import Client
    from cli.context import issuing
    from cli.context import material as certificates

    client = Client.over(connection)
    context = store.load(name)
    if context.material.cert != cert:
        return  # another command renewed or replaced it
    roots = context.material.ca
    changed = replace(context, renews_at=certificates.half_life(cert))
    if connection.is_outdated or time.time() >= changed.renews_at:
        fresh = issuing.issued(client, former_roots=roots)
        if certificates.unrelated(fresh):
            return
        changed = replace(context, material=fresh, renews_at=certificates.half_life(fresh.cert))
    elif roots.count(_BEGIN) > 1:
        fresh = replace(context.material, ca=issuing.trusted_roots(client.ca(), roots))
        changed = replace(changed, material=fresh)
    if changed != context:
        store.save(changed)


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
