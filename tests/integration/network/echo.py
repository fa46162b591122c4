"""A small server in a task's namespace that answers with the client's address, and its client."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fixtures.netns import inside

TIMEOUT_S = 60.0
LOST_S = 1.0
"""Without an answer for so long, there is none."""


def _open(kind: socket.SocketKind, protocol: int, *, six: bool = False) -> socket.socket:
    return socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind, protocol)


@contextmanager
def echo(
    netns: str, port: int, name: str, *, udp: bool = False, protocol: int = 0, six: bool = False
) -> Iterator[None]:
    """Answer `<name> <the client's address>` to every client, by TCP or UDP and one IP version,
    until the block ends.
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    server = inside(netns, lambda: _open(kind, protocol, six=six))
    if six:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", port))
    if not udp:
        server.listen()
    body = _datagrams if udp else _connections
    thread = threading.Thread(target=body, args=(server, name))
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR) if not udp else _wake(netns, port, six=six)
        thread.join()
        server.close()


def _connections(server: socket.socket, name: str) -> None:
    while True:
        try:
            client, address = server.accept()
        except OSError:
            return
        with client:
            client.sendall(f"{name} {address[0]}".encode())


def _datagrams(server: socket.socket, name: str) -> None:
    while True:
        words, address = server.recvfrom(100)
        if words == b"end":
            return
        server.sendto(f"{name} {address[0]}".encode(), address)


def _wake(netns: str, port: int, *, six: bool) -> None:
    with udp_client(netns, six=six) as last:
        last.sendto(b"end", ("::1" if six else "127.0.0.1", port))


def ask(
    netns: str, address: str, port: int, *, protocol: int = 0, timeout_s: float = TIMEOUT_S
) -> tuple[str, str]:
    """The name of the server that answers by TCP at the port, and the address that it saw.

    Raises ConnectionRefusedError, or TimeoutError without an answer.
    """
    six = ":" in address
    with inside(netns, lambda: _open(socket.SOCK_STREAM, protocol, six=six)) as client:
        client.settimeout(timeout_s)
        client.connect((address, port))
        return _parsed(client.recv(100))


def ask_udp(
    client: socket.socket, address: str, port: int, timeout_s: float = TIMEOUT_S
) -> tuple[str, str]:
    """The same by UDP; `client` keeps its port, so that all its datagrams are one flow."""
    client.settimeout(timeout_s)
    client.sendto(b"?", (address, port))
    return _parsed(client.recv(100))


def udp_client(netns: str, *, six: bool = False) -> socket.socket:
    """A UDP socket in a namespace."""
    return inside(netns, lambda: _open(socket.SOCK_DGRAM, 0, six=six))


def _parsed(words: bytes) -> tuple[str, str]:
    name, _, address = words.decode().partition(" ")
    return name, address
