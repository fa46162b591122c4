"""`pyswarm compose run`."""

from typing import TYPE_CHECKING, Any

import click

from cli import session
from cli.compose import mapping, project
from cli.compose.control.exec import has_terminal
from cli.compose.deploying import flags
from cli.compose.verb import ProjectVerb
from pyswarm_core.clock import Instant

if TYPE_CHECKING:
    from cli.compose.deploying import oneoff
    from cli.container.foreground import Attached


@click.command(
    "run",
    cls=ProjectVerb,
    context_settings={"allow_interspersed_args": False},
    help="Run a one-off command on a service: in a container of its own, without the published"
    " ports, after the services that it depends on\n\n"
    "Example: pyswarm compose run --rm app npm test",
)
@flags.BUILD
@click.option("--cap-add", multiple=True, metavar="CAPABILITY", help="Add Linux capabilities")
@click.option("--cap-drop", multiple=True, metavar="CAPABILITY", help="Drop Linux capabilities")
@click.option("-d", "--detach", is_flag=True, help="Run container in background and print its name")
@click.option("--entrypoint", metavar="COMMAND", help="Override the entrypoint of the image")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set environment variables")
@click.option(
    "--env-from-file", multiple=True, metavar="FILE", help="Set environment variables from file"
)
@click.option(
    "-i", "--interactive/--no-interactive", default=True,
    help="Keep STDIN open even if not attached (default true)",
)  # fmt: skip
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE",
              help="Add or override a label")  # fmt: skip
@click.option("--name", default="", metavar="NAME", help="Assign a name to the container")
@click.option(
    "-T", "--no-TTY", "--no-tty", "no_tty", is_flag=True,
    help="Disable pseudo-TTY allocation. By default, one is allocated on a terminal",
)  # fmt: skip
@click.option("--no-deps", is_flag=True, help="Don't start linked services")
@click.option(
    "-p", "--publish", multiple=True, metavar="PORT",
    help="Publish a container's port(s) on every host",
)  # fmt: skip
@flags.PULL
@click.option(
    "-q", "--quiet", is_flag=True, help="Don't print anything to STDOUT but the container's output"
)
@click.option("--quiet-build", is_flag=True, help="Suppress progress output from the build process")
@flags.QUIET_PULL
@flags.REMOVE_ORPHANS
@click.option(
    "--rm", "auto_remove", is_flag=True, help="Automatically remove the container when it exits"
)
@click.option(
    "-P", "--service-ports", is_flag=True,
    help="Run command with all service's ports enabled and mapped to the hosts",
)  # fmt: skip
@click.option(
    "--use-aliases", is_flag=True,
    help="Use the service's network aliases in the network(s) the container connects to",
)  # fmt: skip
@click.option("-u", "--user", default="", metavar="USER", help="Run as specified username or uid")
@click.option("-v", "--volume", "volumes", multiple=True, metavar="[SOURCE:]PATH[:OPTIONS]",
              help="Bind mount a volume")  # fmt: skip
@click.option("-w", "--workdir", default="", metavar="DIR",
              help="Working directory inside the container")  # fmt: skip
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [ARGS...]")
def run(*, service: str, **given: Any) -> int:
    from cli.container import foreground, running

    files = mapping.read((service,))
    from cli.compose import externals
    from cli.compose.deploying import applying, single

    opened = project.of(session.connect(), files.name, files.loaded)
    needed = (service,) if given["no_deps"] else files.with_needed((service,))
    externals.require(opened.client, files.mapped, needed)
    asked = applying.Asked(
        build=given["build"],
        pull=given["pull"],
        quiet_build=given["quiet_build"],
        remove_orphans=given["remove_orphans"],
    )
    streams = foreground.Attached(
        stdin=given["interactive"] and not given["detach"],
        terminal=has_terminal() and not given["no_tty"] and not given["detach"],
    )
    wanted = _container(files.name, service, given, streams)
    with running.docker_exit_codes():
        if not given["no_deps"]:
            single.started_dependencies(opened, files, service, asked)
        created = single.made(opened, files, service, wanted, asked)
        if given["detach"]:
            running.start(created, quiet=given["quiet"], auto_remove=given["auto_remove"])
            click.echo(created.service.spec.name)
            return 0
        return running.attached(created, streams, auto_remove=given["auto_remove"])


COPIED = (
    "command entrypoint labels user workdir cap_add cap_drop volumes publish service_ports"
    " use_aliases auto_remove"
).split()


def _container(
    name: str, service: str, given: dict[str, Any], streams: "Attached"
) -> "oneoff.Asked":
    """The container that the flags ask for."""
    import os

    from cli.compose.deploying import oneoff, single
    from cli.container import foreground
    from cli.service.spec.environment import environment

    return oneoff.Asked(
        name=given["name"] or single.name_of(name, service),
        env=environment(given["env"], given["env_from_file"], os.environ),
        terminal=streams.terminal,
        interactive=streams.stdin,
        attach_by=Instant(0) if given["detach"] else foreground.attach_by(),
        **{key: given[key] for key in COPIED},
    )
