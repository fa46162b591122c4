"""`pyswarm` at a terminal of its own, as a user has it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from types import TracebackType
from typing import Self

from tests.e2e.acceptance.fleet import PATIENCE_S, PYSWARM, Fleet


class Terminal:
    """A command in a session of its own, whose terminal this is."""

    def __init__(self, fleet: Fleet, *words: str, rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        self.settings = termios.tcgetattr(slave)
        """As they were before the command began."""
        self.seen = b""
        self._read = 0
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", PYSWARM, *words],
            env=fleet.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        self._slave = slave

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal: it disappears for the command."""
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str) -> None:
        """Read until the text appears after what was read before."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.seen.find(text.encode(), self._read)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} does not appear in {self.seen!r}"
            if select.select([self._master], [], [], left)[0]:
                self.seen += os.read(self._master, 65536)
        self._read = found + len(text.encode())

    def ended(self) -> int:
        """Wait for the command; its exit code. Its terminal must be as it was."""
        deadline = time.monotonic() + PATIENCE_S
        while self._master >= 0 and self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.seen += os.read(self._master, 65536)
        code = self.process.wait(PATIENCE_S)
        if self._slave >= 0:
            assert termios.tcgetattr(self._slave) == self.settings
        return code

    def child(self) -> int:
        """The pid of `pyswarm` itself."""
        setsid = self.process.pid
        children = f"/proc/{setsid}/task/{setsid}/children"
        with open(children) as found:  # noqa: PTH123
            pids = found.read().split()
        return int(pids[0]) if pids else setsid

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to `pyswarm`."""
        os.kill(self.child(), number)
