"""The names of nodes, services and containers that have to do with volumes. SHELL."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from cli.client import Client
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.ids import NodeId, short
from pyswarm_core.kinds import SERVICE
from pyswarm_core.limits import REPLICAS_MAX
from pyswarm_core.objects import Node, Service
from pyswarm_core.templates.context import expand, is_template, task_context
from pyswarm_core.templates.specs import ANY_SLOT, of_any_slot
from pyswarm_core.volumes.volume import Volume


def names_of(client: Client, volumes: Iterable[Volume]) -> Callable[[NodeId], str]:
    """The hostname of a node; the id of a removed one, and for users who see no nodes."""
    names: dict[NodeId, str] = {}
    if any(one.copies or one.leaving or one.forgotten or one.work for one in volumes):
        with suppress(PermissionDenied):
            names = {view.node.id: view.node.description.hostname for view in client.nodes()}
    return lambda node_id: names.get(node_id, short(node_id))


def users_of(client: Client) -> Callable[[Volume], list[str]]:
    """The names of the services and containers that mount a volume, of those that the user sees."""
    names: dict[str, list[str]] = {}
    nodes: list[Node] | None = None
    with suppress(PermissionDenied):
        for service in client.objects(SERVICE):
            template = service.spec.task_template
            if not any(map(is_template, template.volumes)):
                found: Iterable[str] = template.volumes
            elif service.spec.mode.per_node:
                nodes = [view.node for view in client.nodes()] if nodes is None else nodes
                found = _of_nodes(service, nodes)
            else:
                found = _of_slots(service)
            for volume in dict.fromkeys(found):
                names.setdefault(volume, []).append(service.spec.name)
    return lambda volume: sorted(names.get(volume.spec.name, []))


def _of_slots(service: Service) -> Iterator[str]:
    """The volumes of the slots that the service should have."""
    spec = service.spec
    context = task_context(
        service_id=service.id, service_name=spec.name, service_labels=spec.labels, slot=0
    )
    replicas = min(getattr(spec.mode, "replicas", 0), REPLICAS_MAX)
    for text in of_any_slot(spec.task_template.volumes, context):
        if ANY_SLOT in text:
            yield from (text.replace(ANY_SLOT, str(slot)) for slot in range(1, replicas + 1))
        else:
            yield text


def _of_nodes(service: Service, nodes: Iterable[Node]) -> Iterator[str]:
    """The volumes of a global service on these nodes."""
    spec = service.spec
    for node in nodes:
        described = node.description
        context = task_context(
            service_id=service.id,
            service_name=spec.name,
            service_labels=spec.labels,
            slot=node.number,
            is_global=True,
            node_id=node.id,
            hostname=described.hostname,
            os=described.platform.os,
            architecture=described.platform.architecture,
        )
        yield from (expand("--mount", name, context) for name in spec.task_template.volumes)
