"""The nodes on which an image is pulled, listed or removed. PURE."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from controller.api.images.choosing import created_at, meant, newest, tags, wanted
from controller.api.queries import filters
from controller.api.queries.filters import Filters, Key, has_label
from controller.api.queries.lookup import find
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import parse_time
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.images.views import Image
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Node
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import NodeState


def _matches(image: Image, pattern: str) -> bool:
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


_KEYS: dict[str, Key[Image]] = {
    "reference": Key(_matches),
    "id": Key(lambda image, value: image.id.removeprefix("sha256:").startswith(value)),
    "dangling": Key(lambda image, value: (not tags(image)) == (value == "true"), ("true", "false")),
    "label": Key(lambda image, value: has_label(image.labels, value)),
    "node": Key(lambda _, __: True),
    "before": Key(lambda _, __: True),
    "since": Key(lambda _, __: True),
    "until": Key(lambda image, value: _is_before(image, parse_time(value, Instant(0)))),
}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}Z")
RELATIVE = ("before", "since")
"""Those that compare with another image, or with the time at which one was made."""


def parse_image_filters(given: Iterable[str]) -> Filters:
    """The filters by key; `node` selects the nodes. Raises InvalidArgument."""
    parsed = filters.parse(given, _KEYS, "image")
    for value in parsed.get("until", ()):
        parse_time(value, Instant(0))
    return parsed


def passes(image: Image, given: Filters) -> bool:
    """Whether the image passes those that compare with no other one. All labels hold, as in
    Docker.
    """
    labels = given.get("label", ())
    others = {key: values for key, values in given.items() if key != "label"}
    has_all = all(has_label(image.labels, label) for label in labels)
    return has_all and filters.matches(image, others, _KEYS)


def relative(images: Sequence[Image], given: Filters) -> Callable[[Image], bool]:
    """Whether an image was made before and since those that the filters name. Raises NotFound."""
    bounds = {
        key: [_made(images, value) for value in values]
        for key, values in given.items()
        if key in RELATIVE
    }
    before, since = min(bounds.get("before", [NEVER])), max(bounds.get("since", [Instant(-1)]))

    def passing(image: Image) -> bool:
        created = created_at(image) or Instant(0)
        return since < created < before

    return passing


def _made(images: Sequence[Image], text: str) -> Instant:
    """When the image was made; no image has a time as its name."""
    if _TIME.fullmatch(text):
        return parse_time(text, Instant(0))
    ids = meant(images, wanted(text))
    one = newest(images, ids)
    return next(created_at(image) or Instant(0) for image in images if image.id == one)


def _is_before(image: Image, until: Instant) -> bool:
    created = created_at(image)
    return created is not None and created < until


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
