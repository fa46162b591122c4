"""What is in front of each line of `compose logs` and `compose up`: `web-1  | `. PURE."""

from collections.abc import Iterable, Mapping

from cli.compose.members import Held
from pyswarm_core.views import LogSource


class Prefixes:
    """Names the containers of a project, padded to the longest name so far."""

    def __init__(self, services: Mapping[str, str], containers: Iterable[Held] = ()) -> None:
        """`services`: the names in the file by the full ones."""
        self._services = services
        self._known = {
            one.view.task_id: f"{one.service}-{one.number}" if one.number else one.name
            for one in containers
        }
        self._places: dict[str, list[str]] = {}
        """Nodes of global services, in the order of their first lines."""
        self._width = max(map(len, self._known.values()), default=0)

    def __call__(self, source: LogSource) -> tuple[str, str]:
        """The prefix, and the service, which has one colour."""
        name, service = self._names(source)
        self._width = max(self._width, len(name))
        return f"{name:<{self._width}}  | ", service

    def _names(self, source: LogSource) -> tuple[str, str]:
        full, _, place = source.task_name.removesuffix(f".{source.task_id}").rpartition(".")
        service = self._services.get(full, full)
        if (known := self._known.get(source.task_id)) is not None:
            return known, service
        if not full:
            return place, self._services.get(place, place)
        if place.isdecimal():
            return f"{service}-{place}", service
        places = self._places.setdefault(full, [])
        if place not in places:
            places.append(place)
        return f"{service}-{places.index(place) + 1}", service
