"""`--no-recreate`: services that exist keep their specs, and start if they do not run. SHELL."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from cli.compose.members import Member, in_order
from cli.failures import Failures
from cli.service.change import changed, with_stopped
from cli.service.spec.template import with_replicas
from pyswarm_core.stacks.changes import Action, StackChange

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.deploying.applying import Asked
    from pyswarm_core.specs import ServiceSpec


def begun(client: "Client", members: Iterable[Member], asked: "Asked") -> tuple[StackChange, ...]:
    """Start those that are stopped or have ended, as they are, and set the numbers of `--scale`."""
    found = []
    with Failures() as failures:
        for member in in_order(members):
            has_ended = member.name in asked.started
            number = asked.scales.get(member.name)
            if not (has_ended or member.service.spec.stopped or number is not None):
                continue
            name = member.service.spec.name
            if asked.dry_run:
                click.echo(f"~ service {name} would be started")
                continue
            with failures.collected():
                found.append(_begun(client, member, number, has_ended=has_ended))
    return tuple(found)


def _begun(client: "Client", member: Member, number: int | None, *, has_ended: bool) -> StackChange:
    """Start a service; its template stays, so that no other service follows."""

    def running(spec: "ServiceSpec") -> "ServiceSpec":
        return with_replicas(replace(spec, stopped=False), number, "--scale")

    if has_ended and not member.service.spec.stopped:
        with_stopped(client, member.service.id, stopped=True)
    service = changed(client, member.service.id, running)
    return StackChange(
        kind="service",
        name=service.spec.name,
        id=service.id,
        action=Action.UPDATED,
        spec_version=service.spec_version,
        paused=service.is_paused,
    )
