"""Services and containers of a project, as they are on the fleet. PURE."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cli.compose.names import SERVICE_LABEL, container_name, is_oneoff, ordered
from pyswarm_core.docker.containers.views import ContainerView
from pyswarm_core.ids import ServiceId
from pyswarm_core.natural import natural
from pyswarm_core.objects import Service
from pyswarm_core.views import ServiceSummary


class Member(NamedTuple):
    """A service of the project that is on the fleet."""

    name: str
    """As the file has it: `web` of the service `shop_web`."""
    summary: ServiceSummary

    @property
    def service(self) -> Service:
        """The service itself."""
        return self.summary.service


class Held(NamedTuple):
    """A container of the project."""

    name: str
    """Compose's: `shop-web-1`."""
    service: str
    number: int
    """The number of the replica, from 1; 0: it is of `compose run`."""
    view: ContainerView


def members(project: str, summaries: Iterable[ServiceSummary]) -> tuple[Member, ...]:
    """The services in the order of their names, without containers of `compose run`."""
    found = []
    for summary in summaries:
        spec = summary.service.spec
        if summary.service.removing or is_oneoff(spec.labels):
            continue
        short = spec.labels.get(SERVICE_LABEL) or spec.name.removeprefix(f"{project}_")
        found.append(Member(short, summary))
    return tuple(sorted(found, key=lambda member: natural(member.name)))


def in_order(found: Iterable[Member], *, reverse: bool = False) -> list[Member]:
    """Each after those that it depends on; reversed: before them."""
    by_name = {member.service.spec.name: member for member in found}
    needs = {
        name: [one.service for one in member.service.spec.depends_on]
        for name, member in by_name.items()
    }
    sequence = [by_name[name] for name in ordered(by_name, needs)]
    return sequence[::-1] if reverse else sequence


def held(project: str, views: Iterable[ContainerView], known: Iterable[Member]) -> list[Held]:
    """The containers by service and number, of each slot the last one."""
    by_id = {member.service.id: member for member in known}
    newest: dict[str, dict[str, ContainerView]] = {}
    for view in views:
        slots = newest.setdefault(view.service_id, {})
        place = _place(view)
        if place not in slots or _rank(view) > _rank(slots[place]):
            slots[place] = view
    found = []
    for service_id, slots in newest.items():
        member = by_id.get(ServiceId(service_id))
        for number, view in _numbered(slots, member):
            service = view.labels.get(SERVICE_LABEL) or (member.name if member else "")
            name = container_name(project, service, number) if number else view.name
            found.append(Held(name, service, number, view))
    return sorted(found, key=lambda one: (natural(one.service), not one.number, natural(one.name)))


def _place(view: ContainerView) -> str:
    """The slot of a task: `1` of `shop_web.1.TASK`; of a global service its node's id; of a
    container nothing.
    """
    if not view.service_name:
        return ""
    return view.name.removeprefix(f"{view.service_name}.").partition(".")[0]


def _rank(view: ContainerView) -> tuple[bool, int, str]:
    return view.state.is_shown, view.created_at, view.id


def _numbered(
    slots: Mapping[str, ContainerView], member: Member | None
) -> Iterable[tuple[int, ContainerView]]:
    """Slots have their numbers, the tasks of a global service those of their hosts' order, others
    0. An ended task of a slot that was given up for a smaller number of replicas is left out.
    """
    if "" in slots or member is None:
        return [(0, view) for view in slots.values()]
    mode = member.service.spec.mode
    if not mode.per_node:
        replicas = getattr(mode, "replicas", 1)
        return [
            (number, view)
            for place, view in slots.items()
            if (number := int(place)) <= replicas or view.state.is_shown
        ]
    views = sorted(slots.values(), key=lambda view: (natural(view.node_name), view.id))
    return list(enumerate(views, 1))
