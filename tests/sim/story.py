"""What happened, one line per event: printed when a seed fails, hashed to compare runs.

seconds  subject   what
12.030s  h3        agent killed
"""

from collections.abc import Iterable
from hashlib import blake2b

from tests.sim.clock import Scheduler

SECOND = 1_000_000_000


class Story:
    """The log of a run. `trace` prints every line as it happens."""

    def __init__(self, scheduler: Scheduler, *, trace: bool = False) -> None:
        self._scheduler = scheduler
        self._trace = trace
        self._lines: list[tuple[str, str]] = []
        self._digest = blake2b(digest_size=16)

    def tell(self, subject: str, text: str) -> None:
        """Note an event of a subject (`c1`, `h2`, `user`, a service's name…)."""
        line = f"{self._scheduler.elapsed / SECOND:9.4f}s  {subject:<10} {text}"
        self._lines.append((subject, line))
        self._digest.update(line.encode())
        if self._trace:
            print(line)

    @property
    def digest(self) -> str:
        """The same for the same story."""
        return self._digest.hexdigest()

    def lines(self, about: Iterable[str] = (), last: int = 200) -> list[str]:
        """The newest lines, all or those whose subject or text names one of `about`."""
        names = tuple(about)
        chosen = [
            line
            for subject, line in self._lines
            if not names or subject in names or any(name in line for name in names)
        ]
        return chosen[-last:]
