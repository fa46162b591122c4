"""Reads the progress bars that skopeo draws on a terminal. PURE.

Without a terminal skopeo names blobs, but not their sizes. A line is drawn again as its blob
arrives, so that the last one of a blob counts. What is not understood changes nothing.
"""

import re

from agent.images.base import LayerProgress, LayerState
from pyswarm_core.docker.units import parse_size
from pyswarm_core.errors import InvalidArgument

ROWS, COLUMNS = 512, 160
"""The size of the terminal: skopeo draws no more bars than it has rows."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")
_BLOB = re.compile(r"Copying blob (?:sha256:)?([0-9a-f]{12})[0-9a-f]*(.*)")
_AMOUNT = re.compile(r"\] ([0-9.]+)([kKMGTi]*)b? / ([0-9.]+)([kKMGTi]*)b?", re.IGNORECASE)


class Bars:
    """The layers of one pull, in the order in which they were begun."""

    def __init__(self) -> None:
        self._layers: dict[str, LayerProgress] = {}

    @property
    def layers(self) -> tuple[LayerProgress, ...]:
        """As they are now."""
        return tuple(self._layers.values())

    def line(self, text: str) -> None:
        """Read one line."""
        found = _BLOB.search(_ESCAPES.sub("", text))
        if found is None:
            return
        name, rest = found[1], found[2]
        before = self._layers.get(name, LayerProgress(id=name))
        self._layers[name] = _after(before, rest)


def _after(before: LayerProgress, rest: str) -> LayerProgress:
    if "already exists" in rest:
        return LayerProgress(id=before.id, state=LayerState.EXISTS)
    if rest.strip().startswith("done"):
        total = before.total_bytes
        return LayerProgress(
            id=before.id, state=LayerState.DONE, done_bytes=total, total_bytes=total
        )
    amount = _AMOUNT.search(rest)
    if amount is None or before.state in (LayerState.DONE, LayerState.EXISTS):
        return before
    done, total = _bytes(amount[1], amount[2]), _bytes(amount[3], amount[4])
    return LayerProgress(
        id=before.id,
        state=LayerState.DOWNLOADING,
        done_bytes=max(done, before.done_bytes),
        total_bytes=total,
    )


def _bytes(number: str, unit: str) -> int:
    try:
        return parse_size(number + unit.removesuffix("i").removesuffix("I"))
    except InvalidArgument:
        return 0
