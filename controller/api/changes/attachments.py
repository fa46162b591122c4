"""The networks that a service's tasks join: the spec's own, and the ingress network. PURE."""

from functools import partial

from msgspec.structs import replace

from controller.api.queries.lookup import find
from pyswarm_core.docker import networking
from pyswarm_core.errors import invalid
from pyswarm_core.ids import NetworkId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.ports import has_ingress_ports
from pyswarm_core.specs import NetworkAttachment, ServiceSpec
from pyswarm_core.state import State


def attached(
    state: State, spec: ServiceSpec, ingress: NetworkId | None, old: ServiceSpec | None = None
) -> ServiceSpec:
    """The spec with the ids of its networks, and the ingress network last if it publishes there.

    Raises NotFound; InvalidArgument for a duplicate and for a spec that names the ingress network.
    """
    template = spec.task_template
    joined = old.task_template.overlays if old else ()
    own = []
    for attachment in template.networks:
        target = networking.target(attachment.target, partial(find, state, NETWORK))
        if target != ingress:
            own.append(replace(attachment, target=target))
        elif ingress not in joined:
            reason = "services join the ingress network by publishing a port in mode ingress"
            raise invalid("--network", attachment.target, reason)
        if [one.target for one in own].count(target) > 1:
            raise invalid("--network", attachment.target, "expected each network once")
    if ingress is not None and has_ingress_ports(spec.endpoint_spec):
        own.append(NetworkAttachment(target=ingress))
    return replace(spec, task_template=replace(template, networks=tuple(own)))
