"""Names of syslog servers -> addresses, within a time limit. SHELL over threads.

`socket.getaddrinfo` has no time limit: with nameservers and search domains that do not answer it
takes minutes. So it runs in a thread of its own, once at a time for a name, and who waits for it
stops waiting. A late answer is for the next who asks.
"""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, NamedTuple

NAMES_MAX = 64
"""Resolved at once, each in a thread. Of more names, lines wait in their files."""
LATE_S = 60.0
"""An answer to a question from before is asked for again: addresses change."""

Found = Sequence[tuple[socket.AddressFamily, tuple[Any, ...]]]
"""Families and socket addresses, in the order in which to try them; their ports are 0."""


class _Question(NamedTuple):
    """A name that is being resolved, or was, and nobody waited any more."""

    asked_s: float
    answer: "Future[Found]"


class Names:
    """Resolves names for all containers. Its threads end with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions: dict[str, _Question] = {}

    def addresses(self, host: str, timeout_s: float) -> Found:
        """The addresses of a name or an address. Blocks up to `timeout_s`. Raises OSError."""
        with suppress(socket.gaierror):
            return _found(host, socket.AI_NUMERICHOST)
        question = self._question(host)
        wait([question.answer], timeout_s)
        if not question.answer.done():
            raise TimeoutError(f"{host} was not resolved within {timeout_s:g} s")
        with self._lock:
            if self._questions.get(host) is question:
                del self._questions[host]
        return question.answer.result()

    def _question(self, host: str) -> _Question:
        with self._lock:
            self._forget()
            if host not in self._questions:
                if len(self._questions) >= NAMES_MAX:
                    raise OSError(f"{host} is not resolved: {NAMES_MAX} other names are")
                made = _Question(time.monotonic(), Future())
                threading.Thread(target=_answer, args=(host, made.answer), daemon=True).start()
                self._questions[host] = made
            return self._questions[host]

    def _forget(self) -> None:
        """Forget answers that are old; of as many names as there may be, all answers."""
        old_s = time.monotonic() - LATE_S
        is_full = len(self._questions) >= NAMES_MAX
        for host, (asked_s, answer) in tuple(self._questions.items()):
            if answer.done() and (is_full or asked_s < old_s):
                del self._questions[host]


def _answer(host: str, answer: "Future[Found]") -> None:
    try:
        answer.set_result(_found(host, 0))
    except Exception as error:
        answer.set_exception(error)


def _found(host: str, flags: int) -> Found:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:  # a label that is empty or too long: Python's IDNA
        raise OSError(f"{host[:64]} is no name of a host: {error}") from None
    return [(family, target) for family, *_, target in found]
