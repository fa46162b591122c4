"""Log lines of the daemons: one event per line, `noun.verb` and its facts as key=value. SHELL."""

import logging
import sys
from typing import Any


def set_up(level: str = "info") -> None:
    """Send the daemons' log to stderr. `level` is one of debug, info, warning, error."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )


class EventLog:
    """Writes events of one component."""

    def __init__(self, component: str) -> None:
        self._log = logging.getLogger(component)

    def debug(self, event: str, **facts: Any) -> None:
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug(_line(event, facts))

    def info(self, event: str, **facts: Any) -> None:
        self._log.info(_line(event, facts))

    def warning(self, event: str, **facts: Any) -> None:
        self._log.warning(_line(event, facts))

    def error(self, event: str, *, trace: bool = False, **facts: Any) -> None:
        """`trace` adds the traceback of the exception being handled."""
        self._log.error(_line(event, facts), exc_info=trace)


def _line(event: str, facts: dict[str, Any]) -> str:
    return " ".join([event, *(f"{key}={_text(value)}" for key, value in facts.items())])


def _text(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text or "\n" in text or not text else text
