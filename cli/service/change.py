"""Optimistic updates of a service: read it, change its spec, send both.

On a conflict with another update, once more from the beginning.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from cli import converge, session
from cli.converge import Watched
from cli.failures import Failures
from cli.service.spec.digests import lookup, warn
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import Service
from pyswarm_core.specs import RegistryLogin, ServiceSpec
from pyswarm_core.validation import as_typed, require, service_problems

if TYPE_CHECKING:
    from cli.client import Client


def changed(
    client: "Client",
    ref: str,
    change: Callable[[ServiceSpec], ServiceSpec],
    login_of: Callable[[ServiceSpec], RegistryLogin | None] = lambda spec: None,
    *,
    typed: Mapping[str, str] = MappingProxyType({}),
    query_registry: bool = False,
    quiet: bool = False,
) -> Service:
    """Update a service. Raises InvalidArgument, NotFound, and Conflict the second time.

    `typed` has the texts of flags, which errors quote.
    """

    def sent(service: Service) -> Service:
        spec = change(service.spec)
        require(as_typed(service_problems(spec), typed))
        login = login_of(spec)
        with lookup(spec, announced=query_registry and not quiet):
            updated, warnings = client.update_service(
                service, spec, login, query_registry=query_registry
            )
        warn(warnings)
        return updated

    return _tried_twice(client, ref, sent)


def with_stopped(client: "Client", ref: str, *, stopped: bool) -> Service:
    """Stop a service, or start it again. Raises NotFound, and Conflict the second time."""
    return changed(client, ref, lambda spec: replace(spec, stopped=stopped))


def rolled_back(client: "Client", ref: str, to: int = 0) -> Service:
    """Return to the spec of version `to`, or to the previous one (0).

    Raises NotFound, and Conflict the second time.
    """
    return _tried_twice(client, ref, lambda service: client.rollback_service(service, to))


def tell_stopped(service: Service) -> None:
    """If the service is stopped, say on stderr that none of its tasks runs, and how to start it."""
    if service.spec.stopped:
        click.echo(stopped_text(service.spec.name), err=True)


def stopped_text(name: str) -> str:
    """What is said about a stopped service."""
    return f"service {name} is stopped: `pyswarm service start {name}` starts it"


def change_each(
    refs: Iterable[str],
    change: Callable[["Client", str], Service],
    *,
    detach: bool,
    quiet: bool,
) -> None:
    """Change services one after the other and wait for all of them; one that fails does not stop
    the others.
    """
    client = session.connect()
    watched = []
    with Failures() as failures:
        for ref in dict.fromkeys(refs):
            with failures.collected():
                service = change(client, ref)
                click.echo(ref)
                watched.append(Watched.of(service))
        if watched and not detach:
            converge.until_converged(client, watched, quiet=quiet)


def _tried_twice(client: "Client", ref: str, send: Callable[[Service], Service]) -> Service:
    service = client.service(ref)
    try:
        return send(service)
    except Conflict:
        return send(client.service(service.id))
