"""Which services wait for which others, by name, and whether one waits. PURE (mutable: only `State`
changes the index).

A dependency is named, and may not exist yet. What happens to a service costs the services that it
matters to, not all that depend on it.
"""

from collections.abc import Iterator, Mapping
from enum import Enum

from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Service

_NONE: Mapping[ServiceId, None] = {}


def awaits(service: Service) -> bool:
    """Whether tasks of its template wait until the conditions of its dependencies hold: they have
    not since it was created or started, or got this template.
    """
    return bool(service.spec.depends_on) and not service.is_current(service.gate.released_version)


def is_held(service: Service, spec_version: int) -> bool:
    """Whether a task of that spec version, which has no node, gets none for its dependencies' sake.
    One of an earlier version takes the place of a task that had not to wait.
    """
    return spec_version > service.gate.released_version and awaits(service)


def keeps_templates(service: Service) -> bool:
    """Whether its slots keep the template of their tasks: its update is paused, or waits for
    dependencies while tasks of before run on.
    """
    return service.is_paused or (service.gate.released_version > 0 and awaits(service))


def is_held_whole(service: Service) -> bool:
    """Whether all of its tasks that have no node are held so: it has not been released since it was
    created or started.
    """
    return not service.gate.released_version and awaits(service)


def is_ending(service: Service) -> bool:
    """Whether none of its tasks should run."""
    return service.removing or service.spec.stopped


class _Part(Enum):
    """Services by the name of another, or by their own."""

    WAITING = 1
    """Those that wait for a condition of the other."""
    FOLLOWING = 2
    """Those whose tasks are replaced after an update of the other."""
    ENDING = 3
    """Those that depend on the other, and are stopped or being removed."""
    ENDING_NAMED = 4
    """By their own name, services that are stopped or being removed."""


class Dependents:
    """The services by the names of those that they depend on."""

    def __init__(self) -> None:
        self._parts: dict[_Part, dict[str, dict[ServiceId, None]]] = {part: {} for part in _Part}

    @property
    def is_empty(self) -> bool:
        """Whether no service waits for another one, follows one, or ends with one."""
        parts = self._parts
        return not (parts[_Part.WAITING] or parts[_Part.FOLLOWING] or parts[_Part.ENDING])

    def put(self, old: Service | None, new: Service | None) -> None:
        """Set a service; None: there was none, or it is removed."""
        had, has = list(_entries(old)), list(_entries(new))
        if had == has:
            return
        for part, name, service_id in had:
            held = self._parts[part][name]
            held.pop(service_id, None)
            if not held:
                del self._parts[part][name]
        for part, name, service_id in has:
            self._parts[part].setdefault(name, {})[service_id] = None

    def ending_on(self, name: str) -> Mapping[ServiceId, None]:
        """The services that depend on the named one, and are stopped or being removed."""
        return self._parts[_Part.ENDING].get(name, _NONE)

    def ending_after_others(self) -> Iterator[ServiceId]:
        """The services that others depend on, and are stopped or being removed as those are."""
        needed, named = self._parts[_Part.ENDING], self._parts[_Part.ENDING_NAMED]
        for name in needed:
            yield from named.get(name, ())

    def waiting_for(self, name: str) -> Mapping[ServiceId, None]:
        """The services that wait for a condition of the named one."""
        return self._parts[_Part.WAITING].get(name, _NONE)

    def concerned(self, service: Service) -> Iterator[ServiceId]:
        """The services to decide after the service or its tasks changed: those that wait for it or
        follow it; if it is stopped or being removed, those it depends on that are so too.
        """
        name = service.spec.name
        yield from self.waiting_for(name)
        yield from self._parts[_Part.FOLLOWING].get(name, ())
        named = self._parts[_Part.ENDING_NAMED]
        if named and is_ending(service):
            for one in service.spec.depends_on:
                yield from named.get(one.service, ())


def _entries(service: Service | None) -> Iterator[tuple[_Part, str, ServiceId]]:
    if service is None:
        return
    ends, waits = is_ending(service), awaits(service)
    if ends:
        yield _Part.ENDING_NAMED, service.spec.name, service.id
    for one in service.spec.depends_on:
        if ends:
            yield _Part.ENDING, one.service, service.id
            continue
        if waits:
            yield _Part.WAITING, one.service, service.id
        if one.restart:
            yield _Part.FOLLOWING, one.service, service.id
