"""`pyswarm update`."""

from typing import Any

import click

from cli import converge, session
from cli.container.spec import mapping
from cli.converge import Watched
from cli.failures import Failures
from cli.lazy import Verb
from cli.service.change import changed
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ServiceSpec

_REALTIME = "is not supported: the scheduler plans no real-time CPU time; use --cpu-shares"


def _refuse(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(f"{max(param.opts, key=len)} {_REALTIME}", ctx)


@click.command(
    cls=Verb,
    help="Update configuration of one or more containers\n\n"
    "Limits change in running containers. Of a task of a service, all tasks of the service are"
    " updated.\n\n"
    "Example: pyswarm update --memory 256m --restart always db",
)
@click.option(
    "--blkio-weight",
    metavar="NUMBER",
    help="Block IO (relative weight), between 10 and 1000, or 0 to disable",
)
@click.option(
    "--cpu-period",
    metavar="NUMBER",
    help="Limit CPU CFS (Completely Fair Scheduler) period, in microseconds",
)
@click.option(
    "--cpu-quota",
    metavar="NUMBER",
    help="Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds",
)
@click.option("--cpu-rt-period", hidden=True, expose_value=False, callback=_refuse)
@click.option("--cpu-rt-runtime", hidden=True, expose_value=False, callback=_refuse)
@click.option("-c", "--cpu-shares", metavar="NUMBER", help="CPU shares (relative weight)")
@click.option("--cpus", metavar="DECIMAL", help="Number of CPUs")
@click.option("--cpuset-cpus", metavar="LIST", help="CPUs in which to allow execution (0-3, 0,1)")
@click.option("--cpuset-mems", metavar="LIST", help="MEMs in which to allow execution (0-3, 0,1)")
@click.option("-m", "--memory", metavar="BYTES", help="Memory limit")
@click.option("--memory-reservation", metavar="BYTES", help="Memory soft limit")
@click.option(
    "--memory-swap",
    metavar="BYTES",
    help="Swap limit equal to memory plus swap: -1 to enable unlimited swap",
)
@click.option(
    "--pids-limit", metavar="NUMBER", help="Tune container pids limit (set -1 for unlimited)"
)
@click.option("--restart", metavar="POLICY", help="Restart policy to apply when a container exits")
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def update(*, containers: tuple[str, ...], **given: Any) -> None:
    if all(value is None for value in given.values()):
        raise InvalidArgument("expected one or more flags: `pyswarm update --help` lists them")
    client = session.connect()
    from cli.container import calls

    def change(spec: ServiceSpec) -> ServiceSpec:
        return mapping.updated(spec, given)

    watched = []
    with Failures() as failures:
        for ref in dict.fromkeys(containers):
            with failures.collected():
                named = calls.named(client, ref)
                with mapping.as_typed():
                    service = changed(client, named.service.id, change)
                if not named.is_container:
                    name = service.spec.name
                    click.echo(f"all tasks of service {name} are updated", err=True)
                click.echo(ref)
                watched.append(Watched.of(service))
        if watched:
            converge.until_converged(client, watched, quiet=True)
