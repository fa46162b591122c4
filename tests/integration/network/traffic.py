"""Real connections and datagrams between tasks' namespaces."""

import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from tests.fixtures.netns import inside
from tests.integration.network.hosts import sh

T = TypeVar("T")
PORT = 8080
TIMEOUT_S = 60.0


def open_socket(
    netns: str, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET
) -> socket.socket:
    """A socket that belongs to a namespace and is used from here."""
    made = inside(netns, lambda: socket.socket(family, kind))
    made.settimeout(TIMEOUT_S)
    return made


def outcome(work: Callable[[], T]) -> T | OSError:
    """The result of the work, or the kernel's error."""
    try:
        return work()
    except OSError as error:
        return error


def silence(netns: str) -> None:
    """Drop incoming TCP, as on the path to a lost host."""
    chain = "chain input { type filter hook input priority 0; meta l4proto tcp drop; }"
    sh(f"echo 'table inet lost {{ {chain}; }}' | nsenter --net={netns} nft -f -")


@contextmanager
def unanswered(
    netns: str, address: str, port: int, family: int = socket.AF_INET
) -> Iterator[Future[str]]:
    """An attempt to connect whose first packet is not answered; its result is the first word of the
    server that answers a retransmission.
    """

    def connected() -> str:
        near.connect((address, port))
        return near.recv(100).split()[0].decode()

    with open_socket(netns, socket.SOCK_STREAM, family) as near, ThreadPoolExecutor(1) as pool:
        near.settimeout(TIMEOUT_S)
        attempt = pool.submit(connected)
        time.sleep(0.3)
        assert not attempt.done()
        yield attempt


class Listeners:
    """A server in every given namespace that accepts connections and receives datagrams on PORT."""

    def __init__(self, tasks: Sequence[str], family: int = socket.AF_INET) -> None:
        self._family = family
        self.tcp = [open_socket(task, socket.SOCK_STREAM, family) for task in tasks]
        self.udp = [open_socket(task, socket.SOCK_DGRAM, family) for task in tasks]
        for listener in (*self.tcp, *self.udp):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", PORT))
        for listener in self.tcp:
            listener.listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for listener in (*self.tcp, *self.udp):
            listener.close()

    def call(self, caller: str, address: str) -> str:
        """Connect from a namespace. Returns the address of the server that accepted, "" if none
        did.
        """
        with open_socket(caller, socket.SOCK_STREAM, self._family) as near:
            if isinstance(outcome(lambda: near.connect((address, PORT))), OSError):
                return ""
            far, where = self.accept()
            far.close()
            return where

    def accept(self) -> tuple[socket.socket, str]:
        """The next connection, and the server's address."""
        ready, _, _ = select.select(self.tcp, [], [], TIMEOUT_S)
        far, _ = ready[0].accept()
        return far, str(far.getsockname()[0])

    def takers(self, timeout_s: float = TIMEOUT_S) -> list[int]:
        """The indexes of the namespaces that have a datagram, which is read."""
        ready, _, _ = select.select(self.udp, [], [], timeout_s)
        for listener in ready:
            listener.recv(100)
        return [self.udp.index(listener) for listener in ready]
