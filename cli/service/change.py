"""Optimistic updates of a service: read it, change its spec, send both.

On a conflict with another update, once more from the beginning.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.service.spec.digests import lookup, warn
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import Service
from pyswarm_core.specs import RegistryLogin, ServiceSpec
from pyswarm_core.validation import require, service_problems

if TYPE_CHECKING:
    from cli.client import Client


def changed(
    client: "Client",
    ref: str,
    change: Callable[[ServiceSpec], ServiceSpec],
    login_of: Callable[[ServiceSpec], RegistryLogin | None] = lambda spec: None,
    *,
    query_registry: bool = False,
    quiet: bool = False,
) -> Service:
    """Update a service. Raises InvalidArgument, NotFound, and Conflict the second time."""

    def sent(service: Service) -> Service:
        spec = change(service.spec)
        require(service_problems(spec))
        login = login_of(spec)
        with lookup(spec, announced=query_registry and not quiet):
            updated, warnings = client.update_service(
                service, spec, login, query_registry=query_registry
            )
        warn(warnings)
        return updated

    service = client.service(ref)
    try:
        return sent(service)
    except Conflict:
        return sent(client.service(service.id))
