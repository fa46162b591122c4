"""Which nodes an image is pulled to, listed on and removed from. PURE."""

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
    """What of an image its filters ask."""

    id: str
    names: Sequence[str]


def _matches(image: ImageName, pattern: str) -> bool:
    return any(
        fnmatchcase(text, pattern) for name in image.names for text in (name, *_shorter(name))
    )


def _shorter(name: str) -> tuple[str, ...]:
    """The same image as people write it: with and without its tag."""
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
    """The filters by key; `node` chooses whom to ask. Raises InvalidArgument."""
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
    """The nodes named, or all that are ready, in the order in which they joined."""
    if refs:
        named = {node.id: node for node in (find(state, NODE, ref) for ref in refs)}
        return list(named.values())
    ready = [node for node in state.nodes.values() if node.status.state is NodeState.READY]
    return sorted(ready, key=lambda node: node.number)
