"""Binds of Compose files whose source is on this host: the service runs here. SHELL.

A source that is absolute may be meant on the nodes that the service's constraints name.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cli.container import thishost
from cli.container.spec.sources import Here, named_nodes
from cli.service.spec.template import put
from pyswarm_core.specs import ServiceSpec

if TYPE_CHECKING:
    from cli.client import Client
    from compose.mapping.mapped import LocalBind, Mapped
    from compose.report import Remark

_CONSTRAINTS = "task_template.placement.constraints"
_REMEDIES = (
    "x-pyswarm: {upload: true} in the long form copies it into a volume; configs and volumes are"
    " on every node; deploy.placement.constraints with node.hostname==NODE and an absolute path"
    " mean another node"
)


def pinned(client: "Client", mapped: "Mapped", names: Iterable[str] | None = None) -> "Mapped":
    """The stack, whose services with such binds have a constraint of this host's node; each bind is
    a notice. `names`: the services that are applied, as the file names them; None: all.

    Raises compose.report.Refused with every bind, if this host is no node of the fleet or a service
    demands another node.
    """
    from compose.report import Refused, Remark

    kept = set(mapped.services if names is None else names)
    if not kept.intersection(mapped.local_binds):
        return mapped
    here = thishost.here(client)
    short = {full: name for name, full in mapped.services.items()}
    services: list[ServiceSpec] = []
    faults: list[Remark] = []
    notices = list(mapped.notices)
    for spec in mapped.spec.services:
        constraints = spec.task_template.placement.constraints
        named = named_nodes(constraints)
        binds = [
            bind
            for bind in mapped.local_binds.get(short[spec.name], ())
            if short[spec.name] in kept and not (named and bind.written.startswith("/"))
        ]
        wrong = list(_faults(binds, named, here))
        if isinstance(here, Here) and binds and not wrong:
            told = f"tasks run on this host, {here.hostname}"
            notices += [Remark(one.place, one.path, f"{one.written}: {told}") for one in binds]
            spec = put(spec, _CONSTRAINTS, (*constraints, f"node.id=={here.node_id}"))
        faults += wrong
        services.append(spec)
    if faults:
        raise Refused(faults)
    spec_of_stack = replace(mapped.spec, services=tuple(services))
    return replace(mapped, spec=spec_of_stack, notices=tuple(notices))


def _faults(
    binds: "Iterable[LocalBind]", named: Iterable[tuple[str, str]], here: Here | str
) -> "Iterator[Remark]":
    from compose.report import Remark

    for bind in binds:
        if isinstance(here, str):
            text = f"{bind.written} is on this host, and {here}: {_REMEDIES}"
            yield Remark(bind.place, bind.path, text)
            continue
        own = {"node.id": here.node_id, "node.hostname": here.hostname}
        for key, value in named:
            if own[key].casefold() != value.casefold():
                text = f"{bind.written} is on this host, node {here.hostname}, but the service"
                told = f"{text} demands {key}=={value}: {_REMEDIES}"
                yield Remark(bind.place, bind.path, told)
