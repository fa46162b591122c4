"""Removal of an object of any kind. PURE: state and request in, writes or an error out."""

from collections.abc import Callable, Mapping
from typing import Any

from controller.api.changes.networks import remove_network
from controller.api.changes.nodes import remove_node
from controller.api.changes.services import remove_service
from controller.api.changes.unreadable import remove_unreadable
from controller.api.changes.volumes import remove_volume
from controller.api.payloads.changes import remove_payload
from controller.api.queries.lookup import find
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, quoted
from pyswarm_core.kinds import CONFIG, NETWORK, NODE, SECRET, SERVICE, STACK, VOLUME, Kind
from pyswarm_core.state import State


def remove_object(
    state: State, kind: Kind[Any, Any], ref: str, now: Instant
) -> tuple[Writes, object]:
    """Remove the object that `ref` names, by its kind's own removal if there is one.

    Raises NotFound, and the errors of that removal.
    """
    if (remove := _REMOVE.get(kind.name)) is not None:
        return remove(state, ref, now)
    if (unreadable := remove_unreadable(state, kind, ref)) is not None:
        return unreadable
    item = find(state, kind, ref)
    return Writes(removed=(kind.object_name(item.id),)), item


def _refuse_stack(state: State, ref: str, now: Instant) -> tuple[Writes, object]:
    """The record of a stack alone is removed only if it cannot be read."""
    if (unreadable := remove_unreadable(state, STACK, ref)) is not None:
        return unreadable
    name = find(state, STACK, ref).spec.name
    raise InvalidArgument(f"stack {quoted(name)} goes with its services: pyswarm stack rm {name}")


_REMOVE: Mapping[str, Callable[[State, str, Instant], tuple[Writes, object]]] = {
    SERVICE.name: remove_service,
    NODE.name: lambda state, ref, _: remove_node(state, ref, force=False),
    NETWORK.name: lambda state, ref, _: remove_network(state, ref),
    VOLUME.name: remove_volume,
    SECRET.name: lambda state, ref, now: remove_payload(state, SECRET, ref, now),
    STACK.name: _refuse_stack,
    CONFIG.name: lambda state, ref, now: remove_payload(state, CONFIG, ref, now),
}
"""Kinds with a removal of their own."""
