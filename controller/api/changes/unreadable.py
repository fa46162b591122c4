"""Objects in the store that cannot be read: users can only remove them, by their id. PURE."""

from collections.abc import Collection, Iterator

from controller.api.queries.lookup import Ambiguous, is_named
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import KINDS, SERVICE, Id, Item, Kind
from pyswarm_core.objects import Service
from pyswarm_core.specs import ContainerSpec, ServiceSpec, TaskSpec
from pyswarm_core.state import State

NAME = "(unreadable)"
"""Shown instead of an object's name; no object can have it."""


def unreadable_services(state: State) -> Iterator[Service]:
    """Placeholders for services of which only the ids are known."""
    return map(_stand_in, _ids(state, SERVICE))


def unreadable_service(state: State, service_id: ServiceId) -> Service | None:
    """A placeholder for the service of that id, if it cannot be read."""
    is_unreadable = SERVICE.object_name(service_id) in state.unreadable
    return _stand_in(service_id) if is_unreadable else None


def remove_unreadable(state: State, kind: Kind[Item, Id], ref: str) -> tuple[Writes, Id] | None:
    """The writes that remove the object, and its id; None if `ref` is no such object. The name of
    another object wins over the beginning of its id.

    Raises Ambiguous.
    """
    found = _find(state, kind, ref)
    if found is None or (found != ref and is_named(state, kind, ref)):
        return None
    others = [one for one in state.of(kind) if one.startswith(ref)] if found != ref else []
    if others:
        raise Ambiguous(kind.name, ref, [found, *others])
    return Writes(removed=(kind.object_name(found),)), found


def why_unreadable(state: State, ref: str, hidden: Collection[str] = ()) -> list[str]:
    """The error of an unreadable object of that id; empty if there is none, or it is of a hidden
    kind.
    """
    return [
        f"{kind.name} {found} cannot be read from the store: "
        f"{state.unreadable[kind.object_name(found)]}"
        for kind in KINDS.values()
        if kind.name not in hidden and (found := _find(state, kind, ref))
    ]


def _ids(state: State, kind: Kind[Item, Id]) -> list[Id]:
    prefix = f"{kind.name}/"
    names = (name for name in state.unreadable if name.startswith(prefix))
    return [kind.id_type(name.removeprefix(prefix)) for name in names]


def _find(state: State, kind: Kind[Item, Id], ref: str) -> Id | None:
    """The id that is `ref` or, if there is only one, begins with it."""
    found = [identifier for identifier in _ids(state, kind) if ref and identifier.startswith(ref)]
    return found[0] if len(found) == 1 else None


def _stand_in(service_id: ServiceId) -> Service:
    container = ContainerSpec(image="")
    spec = ServiceSpec(name=NAME, task_template=TaskSpec(container_spec=container))
    return Service(id=service_id, spec=spec)
