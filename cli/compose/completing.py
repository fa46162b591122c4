"""Completion of the services of a project: those of its files, else those on the fleet. SHELL."""

import click
from click.shell_completion import CompletionItem

PARAMETERS = ("service", "services", "attached", "unattached", "exit_code_from")


def complete_services(command: click.Command) -> None:
    """Have the parameters of a verb that name services complete their names."""
    for param in command.params:
        if param.name in PARAMETERS and param.type is click.STRING:
            param.type = ServiceType()


class ServiceType(click.types.StringParamType):
    """The name of a service of the project; any text is accepted."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin with the text."""
        with ctx.scope(cleanup=False):
            return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


def names() -> list[str]:
    """The services; none if the files have faults or no controller answers."""
    from cli.compose import project
    from compose.files import Disk
    from compose.model import load
    from pyswarm_core.errors import PyswarmError

    try:
        wanted = project.wanted()
        try:
            return sorted(load(wanted, Disk()).model["services"])
        except PyswarmError:
            if not wanted.project_name:
                return []
        return [member.name for member in project.opened().members]
    except (PyswarmError, OSError):
        return []
