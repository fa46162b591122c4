"""What programs that read or write archives say on stderr. SHELL."""

import asyncio

from agent.streams.pipes import Reader
from agent.volumes.tar import Child
from pyswarm_core.plaintext import split_lines

_ERROR_BYTES = 4096


class Errors:
    """What a program writes to stderr: its first line is kept, the rest is dropped."""

    def __init__(self, child: Child) -> None:
        self._read = Reader(child.errors)
        self._begun = b""
        self.said = asyncio.Event()
        """Whether the first line is complete."""

    @property
    def line(self) -> str:
        """The first line; empty if there is none."""
        lines = split_lines(self._begun.decode(errors="replace"))
        return lines[0].removeprefix("tar: ") if self._begun else ""

    async def run(self) -> None:
        """Read until the program ends."""
        while part := await self._read(_ERROR_BYTES):
            if not self.said.is_set():
                self._begun = (self._begun + part)[:_ERROR_BYTES]
                if b"\n" in self._begun or len(self._begun) == _ERROR_BYTES:
                    self.said.set()
