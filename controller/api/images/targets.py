"""The nodes on which an image is pulled, listed or removed. PURE."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from controller.api.queries import filters
from controller.api.queries.filters import Filters, Key
from controller.api.queries.lookup import find
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Node
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import NodeState


class ImageName(NamedTuple):
    """The fields of an image that filters test."""

    id: str
    names: Sequence[str]


def _matches(image: ImageName, pattern: str) -> bool:
    return any(
        fnmatchcase(text, pattern) for name in image.names for text in (name, *_shorter(name))
    )


def _shorter(name: str) -> tuple[str, ...]:
    """The image under its names with and without the tag."""
    try:
        reference = parse_reference(name)
    except InvalidArgument:
        return ()
    familiar = reference.familiar
    return familiar, familiar.removesuffix(f":{reference.tag}")


_KEYS: dict[str, Key[ImageName]] = {
    "reference": Key(_matches),
    "id": Key(lambda image, value: image.id.removeprefix("sha256:").startswith(value)),
    "dangling": Key(lambda image, value: (not image.names) == (value == "true"), ("true", "false")),
    "node": Key(lambda _, __: True),
}


def parse_image_filters(given: Iterable[str]) -> Filters:
    """The filters by key; `node` selects the nodes. Raises InvalidArgument."""
    return filters.parse(given, _KEYS, "image")


def passes(image: ImageName, given: Filters) -> bool:
    """Whether the image passes."""
    return filters.matches(image, given, _KEYS)


def eligible_nodes(state: State, spec: ServiceSpec) -> list[NodeId]:
    """The ready nodes on which the service's tasks may run; if there is none, all ready ones."""
    ready = [node.id for node in target_nodes(state, ())]
    table = state.node_table
    satisfying = table.satisfying_all(spec.task_template.placement.constraints)
    return [node_id for node_id in ready if satisfying[table.rows[node_id]]] or ready


def target_nodes(state: State, refs: Sequence[str]) -> list[Node]:
    """The named nodes, by default all that are ready, in the order in which they joined."""
    if refs:
        named = {node.id: node for node in (find(state, NODE, ref) for ref in refs)}
        return list(named.values())
    ready = [node for node in state.nodes.values() if node.status.state is NodeState.READY]
    return sorted(ready, key=lambda node: node.number)
