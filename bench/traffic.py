"""Bytes, round trips and connections between two network namespaces. SHELL.

Both ends run the same lines of Python on every path, so that a ratio depends on the path alone. An
end runs as long as the benchmark, because a start takes longer than a measurement. Run as a
program, this file is one end.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 7070
PORTS = range(PORT, PORT + 3)
"""A server listens on all: paths that lead from one client to one server take a port each, or the
kernel would find the one's connections in the other's way.
"""
_TIMEOUT_S = 10.0
_BLOCK = bytes(256 * 1024)
_KINDS = {"flood": b"f", "trip": b"t", "connect": b"c"}


@contextmanager
def serving(*enter: str) -> Iterator[None]:
    """Serve all kinds of traffic in the namespace that the command prefix `enter` enters."""
    command = [*enter, sys.executable, str(Path(__file__).resolve()), "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield
        finally:
            server.kill()


class Dialler:
    """A client in the namespace that `enter` enters."""

    def __init__(self, *enter: str) -> None:
        command = [*enter, sys.executable, str(Path(__file__).resolve()), "dial"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measured(self, kind: str, address: str, port: int, for_s: float) -> float:
        """`flood`: bits a second; `trip`: round trips a second; `connect`: connections a second."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        print(kind, address, port, for_s, file=requests, flush=True)
        return float(answers.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    for port in PORTS:
        server = socket.create_server(("", port), backlog=1024)
        threading.Thread(target=_accept, args=(server,)).start()
    print(flush=True)  # the parent process waits for this line


def _accept(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        kind = connection.recv(1)
        if kind == _KINDS["connect"] or not kind:
            connection.close()
            continue
        target = _swallow if kind == _KINDS["flood"] else _echo
        threading.Thread(target=target, args=(connection,), daemon=True).start()


def _swallow(connection: socket.socket) -> None:
    buffer = bytearray(len(_BLOCK))
    while connection.recv_into(buffer):
        pass


def _echo(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while word := connection.recv(1):
        connection.send(word)


def _dial() -> None:
    for line in sys.stdin:
        kind, address, port, for_s = line.split()
        print(_measured(kind, (address, int(port)), float(for_s)), flush=True)


def _measured(kind: str, to: tuple[str, int], for_s: float) -> float:
    _wait_for(to)
    began = time.monotonic()
    end = began + for_s
    count = 0
    if kind == "connect":
        while time.monotonic() < end:
            with socket.create_connection(to) as connection:
                connection.send(_KINDS[kind])
                connection.recv(1)
            count += 1
        return count / (time.monotonic() - began)
    with socket.create_connection(to) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.send(_KINDS[kind])
        while time.monotonic() < end:
            if kind == "flood":
                connection.sendall(_BLOCK)
                count += 8 * len(_BLOCK)
            else:
                connection.send(b"x")
                connection.recv(1)
                count += 1
    return count / (time.monotonic() - began)


def _wait_for(to: tuple[str, int]) -> None:
    """Return once the address answers: a service has no backends before its task serves."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            socket.create_connection(to, timeout=_TIMEOUT_S).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    {"serve": _serve, "dial": _dial}[sys.argv[1]]()
