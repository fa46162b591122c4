"""Connections to the journal and to syslog servers. SHELL over sockets; blocking."""

import errno
import os
import select
import socket
from contextlib import suppress
from typing import Any

from pyswarm_core.docker.logdrivers import HOST_SYSLOG, JOURNALD, Address, LogSettings

JOURNAL = "/run/systemd/journal/socket"
ANSWER_S = 0.05
"""How long after its first datagram a server's host may answer that nobody listens."""
TIMEOUT_S = 5.0
"""Of a connection and of one message: a server that does not read must not block others' lines."""

_READ_BYTES = 1024
"""Of what a server answers, which nobody needs."""


def address_of(settings: LogSettings) -> Address:
    """Where the messages are sent: without an address the host's own syslog."""
    if settings.driver == JOURNALD:
        return Address("unixgram", path=JOURNAL)
    return settings.address if settings.address.kind else Address("unixgram", path=HOST_SYSLOG)


def shown(address: Address) -> str:
    """The address as users write it."""
    if address.path:
        return f"{address.kind}://{address.path}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{address.kind}://{host}:{address.port}"


class Sink:
    """A connection that is made when the first message is sent. Errors are OSError; the next
    message makes a new connection.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def send(self, message: bytes) -> None:
        """Send one message. One that no datagram can hold is dropped."""
        is_first = self._socket is None
        if self._socket is None:
            self._socket = self._connected()
        try:
            if self._is_stream:
                self._socket.sendall(message)
            else:
                self._socket.send(message)
            if is_first and self._address.kind == "udp":
                _require_accepted(self._socket)
        except OSError as error:
            self.close()
            if error.errno != errno.EMSGSIZE:
                raise

    def check(self) -> None:
        """Close the connection if the server did: what is sent to it would be lost."""
        if self._socket is None or not self._is_stream:
            return
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(0):
            return
        try:
            is_open = bool(self._socket.recv(_READ_BYTES))
        except OSError:
            is_open = False
        if not is_open:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    @property
    def _is_stream(self) -> bool:
        return self._address.kind in ("tcp", "unix")

    def _connected(self) -> socket.socket:
        address = self._address
        if address.kind == "tcp":
            return socket.create_connection((address.host, address.port), TIMEOUT_S)
        target: Any
        kind = socket.SOCK_STREAM if self._is_stream else socket.SOCK_DGRAM
        if address.path:
            family, target = socket.AF_UNIX, address.path
        else:
            found = socket.getaddrinfo(address.host, address.port, type=kind)
            family, *_, target = found[0]
        made = socket.socket(family, kind)
        made.settimeout(TIMEOUT_S)
        try:
            made.connect(target)
        except BaseException:
            made.close()
            raise
        return made


def _require_accepted(made: socket.socket) -> None:
    """Raises OSError if the host of the server answers that nobody listens."""
    poll = select.poll()
    poll.register(made, select.POLLERR)
    if poll.poll(ANSWER_S * 1000) and (
        error := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    ):
        raise OSError(error, os.strerror(error))
