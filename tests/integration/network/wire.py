"""Captures packets on the underlay."""

import select
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from tests.fixtures.netns import inside
from tests.integration.network.hosts import PREFIX, Rig

UDP, ESP = 17, 50
_EVERYTHING = 0x0003
_RCVBUFFORCE = 33


class Wire:
    """Inspects every IPv4 packet on a host's interface until the block ends; `phrases` is the
    number that contained `secret`.
    """

    def __init__(self, rig: Rig, number: int, secret: bytes) -> None:
        # Without a protocol it receives nothing until it is bound.
        self._tap = inside(rig.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._tap.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 64 << 20)
        self._tap.bind((f"{PREFIX}l{number}", _EVERYTHING))
        self._end, self._told = socket.socketpair()
        self._secret = secret
        self._thread = threading.Thread(target=self._look)
        self.protocols: Counter[int] = Counter()
        self.spis: set[int] = set()
        self.phrases = 0
        self.largest = 0
        self.fragments = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.close()
        self._thread.join()
        self._tap.close()
        self._told.close()

    def _look(self) -> None:
        while True:
            ready, _, _ = select.select([self._tap, self._told], [], [])
            if self._tap in ready:
                self._note(self._tap.recv(1 << 17))
            elif self._told in ready:
                return

    def _note(self, frame: bytes) -> None:
        if frame[12:14] != b"\x08\x00":
            return
        packet = frame[14:]
        protocol = packet[9]
        self.protocols[protocol] += 1
        self.phrases += self._secret in packet
        self.largest = max(self.largest, int.from_bytes(packet[2:4]))
        self.fragments += bool(int.from_bytes(packet[6:8]) & 0x3FFF)
        if protocol == ESP:
            self.spis.add(int.from_bytes(packet[20:24]))
