"""TLS of an HTTP server whose certificate is renewed. SHELL over OpenSSL."""

import os
import ssl
from collections.abc import Callable

from pyswarm_core.aio.logs import EventLog

_log = EventLog("daemon.tls")


class Contexts:
    """The TLS of new connections: 1.3, with the newest certificate. For one thread.

    `identity` returns certificate chain and key, PEM; empty while there are none.
    """

    def __init__(self, identity: Callable[[], bytes]) -> None:
        self._identity = identity
        self._used = b""
        self._context: ssl.SSLContext | None = None

    def current(self) -> ssl.SSLContext | None:
        """None while there is no usable certificate."""
        identity = self._identity()
        if identity != self._used:
            self._used = identity
            try:
                self._context = _server_context(identity) if identity else None
            except OSError as error:  # ssl.SSLError is one
                self._context = None
                _log.error("certificate.unusable", error=error)
        return self._context


def _server_context(identity: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # each connection has the newest certificate
    load_identity(context, identity)
    return context


def load_identity(context: ssl.SSLContext, identity: bytes) -> None:
    """Show this certificate chain, with its key, PEM. Raises OSError if they are unusable."""
    # OpenSSL's function for this reads files only; this one is in memory.
    handle = os.memfd_create("identity")
    try:
        os.write(handle, identity)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
