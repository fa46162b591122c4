"""`pyswarm completion`."""

import click
from click.shell_completion import get_completion_class

from cli import flags
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Generate the completion script of a shell\n\n"
    "Example: pyswarm completion bash > /etc/bash_completion.d/pyswarm",
)
@click.argument("shell", type=flags.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    complete = get_completion_class(shell)
    assert complete is not None
    script = complete(context.find_root().command, {}, "pyswarm", "_PYSWARM_COMPLETE")
    click.echo(script.source())
