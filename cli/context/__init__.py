"""`pyswarm context`: one file per verb; `store.py` has the contexts."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.context.create:create", "Create a context"),
    "export": ("cli.context.export:export", "Export a context to a tar archive FILE or STDOUT"),
    "import": ("cli.context.import_:import_", "Import a context from a tar archive FILE or STDIN"),
    "inspect": ("cli.context.inspect:inspect", "Display information on one or more contexts"),
    "ls": ("cli.context.ls:ls_", "List contexts"),
    "rm": ("cli.context.rm:rm", "Remove one or more contexts"),
    "show": ("cli.context.show:show", "Print the name of the current context"),
    "update": ("cli.context.update:update", "Update a context"),
    "use": ("cli.context.use:use", "Set the current context"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage contexts")
def context() -> None:
    pass
