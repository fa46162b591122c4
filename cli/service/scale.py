"""`pyswarm service scale`."""

from typing import TYPE_CHECKING

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.failures import Failures
from cli.lazy import Verb
from cli.service.change import changed, tell_stopped
from cli.service.spec.template import with_replicas
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.validation.ranges import RANGES

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="Scale one or multiple replicated services and wait for them to converge\n\n"
    "Example: pyswarm service scale web=5 db=2",
)
@flags.detach
@flags.quiet_progress
@click.argument("targets", nargs=-1, required=True, metavar="SERVICE=REPLICAS...")
def scale(*, detach: bool, quiet: bool, targets: tuple[str, ...]) -> None:
    replicas_of = dict(map(parse, targets))
    client = session.connect()
    scaled = []
    with Failures() as failures:
        for ref, replicas in replicas_of.items():
            with failures.collected():
                scaled.append(_scale(client, ref, replicas))
        if scaled and not detach:
            converge.until_converged(client, scaled, quiet=quiet)


def parse(target: str) -> tuple[str, int]:
    """Parse `web=5`. Raises InvalidArgument."""
    ref, _, number = target.rpartition("=")
    if not ref:
        raise invalid("SERVICE=REPLICAS", target, "expected a service and a number, as in web=5")
    try:
        return ref, RANGES["--replicas"].read("REPLICAS", number)
    except InvalidArgument as error:
        raise invalid("SERVICE=REPLICAS", target, f"{error.reason} for REPLICAS") from None


def _scale(client: "Client", ref: str, replicas: int) -> Watched:
    def resized(spec: ServiceSpec) -> ServiceSpec:
        return with_replicas(spec, replicas, given_as=f"{ref}: scale")

    service = changed(client, ref, resized)
    click.echo(f"{ref} scaled to {replicas}")
    tell_stopped(service)
    return Watched.of(service)
