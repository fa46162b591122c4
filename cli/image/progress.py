"""The lines that show a pull on several nodes, by layer as Docker's. PURE.

A layer is shown once, with its bytes on all nodes; with several nodes each has a line too.
"""

from collections.abc import Iterator
from contextlib import suppress

from cli.render.listing import one_line
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.images.views import ImageProgress, LayerProgress, NodeImageProgress

_BAR = 50
_ENDED = ("exists", "done")
_WORDS = {"waiting": "Waiting", "connecting": "Pulling from its registry"}


class PullView:
    """What the nodes have reported of one pull."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeImageProgress] = {}
        self._complete: dict[str, dict[str, ImageProgress]] = {}
        """By reference, the last progress of each node that has it."""

    def take(self, update: NodeImageProgress) -> None:
        """Take one report."""
        self._nodes[update.node_name] = update
        progress = update.progress
        if progress.digest:
            self._complete.setdefault(progress.reference, {})[update.node_name] = progress

    def lines(self) -> list[str]:
        """All lines as they are now, for a terminal."""
        shown = [f"{name}: {_layer(layers)}" for name, layers in self._layers().items()]
        if len(self._nodes) > 1 or not shown:
            shown += [self._node(node) for node in self._nodes.values()]
        return shown

    def words(self) -> list[str]:
        """The lines without amounts, for a pipe, where each is printed once; without errors, which
        are printed at the end.
        """
        shown = [f"{name}: {_state(layers)}" for name, layers in self._layers().items()]
        nodes = (node for node in self._nodes.values() if not node.error)
        return shown + [self._node(node, amount=False) for node in nodes]

    def summary(self) -> Iterator[str]:
        """Docker's last lines, for each reference."""
        for reference, nodes in self._complete.items():
            for digest in dict.fromkeys(one.digest for one in nodes.values()):
                yield f"Digest: {one_line(digest)}"
            current = all(one.up_to_date for one in nodes.values())
            what = "Image is up to date for" if current else "Downloaded newer image for"
            with suppress(InvalidArgument):  # an agent is not trusted
                reference = parse_reference(reference).familiar
            yield f"Status: {what} {one_line(reference)}"

    def _layers(self) -> dict[str, list[LayerProgress]]:
        found: dict[str, list[LayerProgress]] = {}
        for node in self._nodes.values():
            for layer in node.progress.layers:
                found.setdefault(one_line(layer.id), []).append(layer)
        return found

    def _node(self, node: NodeImageProgress, *, amount: bool = True) -> str:
        name, progress = one_line(node.node_name), node.progress
        if node.error:
            return f"{name}: {one_line(node.error)}"
        if node.done or progress.digest:
            return f"{name}: {'done' if node.done else 'Pull complete'}"
        if not progress.layers:
            return f"{name}: {_WORDS.get(progress.status, one_line(progress.status))}"
        if not amount:
            return f"{name}: Downloading"
        ended = sum(layer.state in _ENDED for layer in progress.layers)
        return f"{name}: {ended}/{len(progress.layers)} layers {_amount(progress.layers)}"


def _layer(layers: list[LayerProgress]) -> str:
    state = _state(layers)
    total = sum(layer.total_bytes for layer in layers)
    if state != "Downloading" or not total:
        return state
    done = min(total, sum(layer.done_bytes for layer in layers))
    filled = done * _BAR // total
    bar = f"{'=' * max(0, filled - 1)}{'>' if filled else ''}"
    return f"{state} [{bar:<{_BAR}}] {_amount(layers)}"


def _amount(layers: list[LayerProgress] | tuple[LayerProgress, ...]) -> str:
    done = sum(layer.done_bytes for layer in layers)
    total = sum(layer.total_bytes for layer in layers)
    return f"{decimal_size(done)}/{decimal_size(total)}"


def _state(layers: list[LayerProgress]) -> str:
    states = {layer.state for layer in layers}
    if states == {"exists"}:
        return "Already exists"
    if states <= set(_ENDED):
        return "Pull complete"
    return "Downloading" if "downloading" in states else "Pulling fs layer"
