"""Log lines of the daemons: one event per line, `noun.verb` and its fields as key=value. SHELL."""

import logging
import sys
import time
from typing import Any


def set_up(level: str = "info") -> None:
    """Send the daemons' log to stderr. `level` is one of debug, info, warning, error."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )


class EventLog:
    """Writes the events of one component."""

    def __init__(self, component: str) -> None:
        self._log = logging.getLogger(component)  # noqa: TID251
        self._written_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def debug(self, event: str, **facts: Any) -> None:
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug(_line(event, facts))

    def info(self, event: str, *, every_s: float = 0.0, **facts: Any) -> None:
        """With `every_s`: at most one line of this event in so many seconds; the next line has the
        number of omitted lines in `left_out`. For events that clients can cause at any rate.
        """
        if self._is_due(event, every_s, facts):
            self._log.info(_line(event, facts))

    def warning(self, event: str, *, every_s: float = 0.0, **facts: Any) -> None:
        """`every_s`: see `info`."""
        if self._is_due(event, every_s, facts):
            self._log.warning(_line(event, facts))

    def error(self, event: str, *, trace: bool = False, every_s: float = 0.0, **facts: Any) -> None:
        """`trace` adds the traceback of the exception being handled. `every_s`: see `info`."""
        if self._is_due(event, every_s, facts):
            self._log.error(_line(event, facts), exc_info=trace)

    def _is_due(self, event: str, every_s: float, facts: dict[str, Any]) -> bool:
        if not every_s:
            return True
        now = time.monotonic()
        if now < self._written_at.get(event, -every_s) + every_s:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return False
        self._written_at[event] = now
        if left_out := self._left_out.pop(event, 0):
            facts["left_out"] = left_out
        return True


def _line(event: str, facts: dict[str, Any]) -> str:
    return " ".join([event, *(f"{key}={_text(value)}" for key, value in facts.items())])


def _text(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text or not text.isprintable() or not text else text
