"""Bytes, round trips and connections between two network namespaces. SHELL.

Both ends are the same few lines of Python on every path, entered by `nsenter`, so a ratio tells
about the path. Run as a program, this file is one end.
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
_BLOCK = bytes(256 * 1024)
_KINDS = {"flood": b"f", "trip": b"t", "connect": b"c"}


@contextmanager
def serving(*enter: str, port: int = PORT) -> Iterator[None]:
    """Serve all kinds of traffic behind `enter`, the words that lead into a namespace."""
    command = [*enter, sys.executable, str(Path(__file__).resolve()), "serve", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield
        finally:
            server.kill()


def measured(enter: list[str], kind: str, address: str, port: int, for_s: float) -> float:
    """`flood`: bits a second; `trip`: round trips a second; `connect`: connections a second."""
    me = str(Path(__file__).resolve())
    command = [*enter, sys.executable, me, kind, address, str(port), str(for_s)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _serve(port: int) -> None:
    server = socket.create_server(("", port), backlog=1024)
    print(flush=True)  # whoever started this waits for the line
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


def _client(kind: str, address: str, port: int, for_s: float) -> float:
    began = time.monotonic()
    end = began + for_s
    count = 0
    if kind == "connect":
        while time.monotonic() < end:
            with socket.create_connection((address, port)) as connection:
                connection.send(_KINDS[kind])
                connection.recv(1)
            count += 1
        return count / (time.monotonic() - began)
    with socket.create_connection((address, port)) as connection:
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


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(int(sys.argv[2]))
    else:
        print(_client(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
