"""Optimistic changes of a service: read, change, send with what it was based on.

If another change came first, once more from the beginning.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.service.digests import lookup, warn
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
    """The service after the change. Raises InvalidArgument, NotFound, Conflict the second time."""

    def sent(service: Service) -> Service:
        spec = change(service.spec)
        require(service_problems(spec))
        login = login_of(spec)
        with lookup(spec, told=query_registry and not quiet):
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
