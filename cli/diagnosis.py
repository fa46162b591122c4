"""Finds out why a TLS connection failed, of which gRPC says `Socket closed`. SHELL."""

import time

from cli.context.model import Context
from cli.errors import Unreachable
from pyswarm_core.aio.handshake import NoConnection, peer_chain
from pyswarm_core.errors import PermissionDenied, PyswarmError, quoted
from pyswarm_core.identity.tokens import digest_of
from pyswarm_core.identity.trust import Certificate, out_of_time, roots_of

_HANDSHAKE = (
    "tls handshake failed",
    "custom verification check failed",
    "failed to create security handshaker",
    "socket closed",
    "connection reset",
)
"""In gRPC's errors if the handshake failed, on either side."""


def is_handshake(details: str) -> bool:
    """Whether gRPC's error may be one of a TLS handshake."""
    text = details.lower()
    return any(part in text for part in _HANDSHAKE)


def cause(context: Context) -> PyswarmError | None:
    """Why the controller and the context's credentials do not fit; None if nothing is found.

    Connects once more, and sends nothing of the context.
    """
    try:
        chain = peer_chain(context.host)
    except NoConnection as error:
        return Unreachable(f"cannot reach a controller at {context.host}: {error}")
    except PyswarmError as error:
        return error
    text = _own(context) or _theirs(context, chain)
    return PermissionDenied(text) if text else None


def unexplained(context: Context) -> PermissionDenied:
    """The error if no cause was found."""
    return PermissionDenied(
        f"the controller at {context.host} closed the connection: it restarts, or it does not"
        f" accept the certificate of {owner(context)}; its log has the reason"
    )


def owner(context: Context) -> str:
    """What has the credentials, in an error."""
    return f"context {quoted(context.name)}" if context.name else "this command"


def _own(context: Context) -> str:
    """What is wrong with the context's certificate."""
    if not context.material.cert:
        return ""
    from cli.context import material

    try:
        problem = material.unrelated(context.material)
        dated = material.out_of_time(context)
    except PyswarmError as error:
        problem, dated = str(error), ""
    renew = (
        ": an admin, or root on a controller's host, makes a new one with `pyswarm context create"
        " NAME --user USER`"
    )
    if problem:
        return f"the credentials of {owner(context)} are not valid: {problem}{renew}"
    return dated + renew if dated else ""


def _theirs(context: Context, chain: tuple[Certificate, ...]) -> str:
    """What is wrong with the controller's certificates."""
    host = context.host
    ours = roots_of(context.material.ca, "ca") if context.material.ca else ()
    if ours and not any(one.der in ours for one in chain):
        roots = [digest_of(one.der) for one in chain if one.subject == one.issuer]
        return (
            f"the controller at {host} has another CA than {owner(context)}"
            f" (expected {' or '.join(map(digest_of, ours))}, it has"
            f" {' and '.join(roots) or 'none'}): the CA was rotated since, the address is of"
            " another fleet, or somebody answers in its place"
        )
    return out_of_time(chain[:1], host, int(time.time()))
