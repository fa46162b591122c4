"""`pyswarm logs`: `service logs` in the form of `docker logs`."""

import click

from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Fetch the logs of a container, of a service or of a task\n\n"
    "Example: pyswarm logs --follow --tail 10 db",
)
@click.option("-f", "--follow", is_flag=True, help="Follow log output")
@click.option(
    "-n", "--tail", default="all", metavar="LINES",
    help="Number of lines to show from the end of the logs",
)  # fmt: skip
@click.option(
    "--since",
    default="",
    metavar="TIME",
    help="Show logs since timestamp (2026-01-31T08:00:00) or relative (10m)",
)
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@click.argument("container")
def logs(*, follow: bool, tail: str, since: str, timestamps: bool, container: str) -> None:
    from cli import session
    from cli.container import calls
    from cli.render.loglines import Form
    from cli.service.logs import parse_tail, show
    from cli.times import instant

    count = parse_tail(tail)
    start = instant("--since", since) if since else 0
    client = session.connect()
    named = calls.named(client, container)
    form = Form(timestamps=timestamps, prefix=named.is_service, task_ids=False)
    ref = named.service.id if named.is_service or named.is_container else container
    show(client.logs(ref, follow=follow, tail=count, since=start), form, follow=follow)
