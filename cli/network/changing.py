"""Changes the networks of a container, and waits for its node. SHELL."""

from collections.abc import Callable

from cli import converge
from cli.client import Client
from cli.container import calls
from cli.container.calls import Named
from cli.container.lifecycle.stopping import runs
from cli.converge import Watched
from cli.errors import ConvergenceFailed
from cli.network.connecting import Joined
from cli.service.change import changed
from cli.service.spec.template import put
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.specs import PREDEFINED_NETWORKS, ServiceSpec


def named(client: Client, ref: str) -> Joined:
    """The network of that name, id or prefix. Raises NotFound in Docker's words."""
    if ref in PREDEFINED_NETWORKS:
        return Joined(ref, ref)
    try:
        network = client.network(ref)
    except NotFound as error:
        if "ambiguous" in str(error):
            raise
        raise NotFound(f"network {ref} not found") from None
    return Joined(network.id, network.spec.name, network.spec.ingress)


def change(
    client: Client,
    container: Named,
    edit: Callable[[ServiceSpec], ServiceSpec],
    *,
    wait: bool = True,
) -> None:
    """Change the container's spec; of one that runs, return once its node has changed the
    container. Raises Conflict if the node refuses; then the container's spec is the former one
    again.
    """
    before = container.service.spec.task_template.networks
    service = changed(client, container.service.id, edit)
    if not wait or not runs(container):
        return
    try:
        converge.until_converged(client, [Watched.of(service)], quiet=True)
    except ConvergenceFailed:
        now = calls.named(client, service.id)
        if now.task is None or not now.task.task.detail.networks_refused:
            raise
        if now.service.spec_version == service.spec_version:
            former = changed(
                client, service.id, lambda spec: put(spec, "task_template.networks", before)
            )
            converge.until_converged(client, [Watched.of(former)], quiet=True)
        why = now.task.task.detail.in_place_error
        raise Conflict(f"node {now.task.node_name} refused: {why}") from None
