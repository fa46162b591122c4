"""A TLS connection between two agents. SHELL: blocking, for a thread of its own.

OpenSSL works in memory, on parts of DIRECT_BYTES: that takes one system call for each part, where a
socket of `ssl` takes two for each 16 KiB.
"""

import socket
import ssl
from contextlib import suppress
from typing import NamedTuple

from pyswarm_core.aio.http.tls import load_identity
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.identity.trust import AGENT_UNIT
from pyswarm_core.ids import NodeId
from pyswarm_core.streams.limits import DIRECT_BYTES


class Own(NamedTuple):
    """What this agent shows to others, and requires of them."""

    chain_and_key: bytes
    """PEM."""
    roots: str
    """PEM."""
    cluster_id: str
    address: str
    """On the underlay: where it listens."""

    def __repr__(self) -> str:
        """Without the key."""
        return f"Own({self.address})"


class Connection:
    """A connection whose other end is the agent of `peer`. All methods but `abort` and `close` are
    for one thread. They raise OSError, also what `ssl` raises.
    """

    def __init__(self, connection: socket.socket, own: Own, *, accepts: bool) -> None:
        """Shake hands. Raises PermissionDenied if the other end is no agent of this cluster."""
        self._socket = connection
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _context(own, accepts=accepts)
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=accepts)
        self._buffer = memoryview(bytearray(DIRECT_BYTES))
        self._shake_hands()
        self.peer = _node_of(self._tls, own.cluster_id)
        self.is_aborted = False

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return

    def send(self, data: memoryview) -> None:
        """Send all of the data."""
        self._tls.write(data)
        self._flush()

    def receive_into(self, data: memoryview) -> int:
        """Wait for data, and return how much of it there is; 0: the sender has ended. Raises
        SSLEOFError if it has not and there is no connection any more.
        """
        size = 0
        while size < len(data):
            try:
                count = self._tls.read(len(data) - size, data[size:])
            except ssl.SSLZeroReturnError:
                break
            except ssl.SSLWantReadError:
                if size:
                    break
                self._fill()
                continue
            if not count:
                break
            size += int(count)
        return size

    def end(self) -> None:
        """Nothing more is sent."""
        with suppress(ssl.SSLWantReadError):  # the other end answers later, or never
            self._tls.unwrap()
        self._flush()

    def abort(self) -> None:
        """End what a thread is doing with the connection. Does not block."""
        self.is_aborted = True
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No thread uses the connection any more."""
        self._socket.close()

    def _flush(self) -> None:
        if data := self._leaving.read():
            self._socket.sendall(data)

    def _fill(self) -> None:
        if count := self._socket.recv_into(self._buffer):
            self._arrived.write(self._buffer[:count])
        else:
            self._arrived.write_eof()


def _context(own: Own, *, accepts: bool) -> ssl.SSLContext:
    protocol = ssl.PROTOCOL_TLS_SERVER if accepts else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # `_node_of` compares what certificates of agents name
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=own.roots)
    if accepts:
        context.num_tickets = 0  # nobody would read them
    load_identity(context, own.chain_and_key)
    return context


def _node_of(tls: ssl.SSLObject, cluster_id: str) -> NodeId:
    """The node in the certificate, which OpenSSL has verified."""
    shown = tls.getpeercert() or {}
    named = dict(pair for relative in shown.get("subject", ()) for pair in relative)  # type: ignore[misc]
    if named.get("organizationalUnitName") != AGENT_UNIT:
        raise PermissionDenied("the other end has no certificate of a node")
    if named.get("organizationName") != cluster_id:
        raise PermissionDenied("the other end is of another cluster")
    return NodeId(str(named.get("commonName")))
