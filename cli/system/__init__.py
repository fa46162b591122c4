"""`pyswarm system`: one file per verb; `info` and `events` are those without a noun."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "df": ("cli.system.df:df", "Show disk usage of the fleet"),
    "events": ("cli.verbs.events:events", "Get real time events from the fleet"),
    "info": ("cli.verbs.info:info", "Display fleet-wide information"),
    "prune": ("cli.system.prune:prune", "Remove unused data of the fleet"),
}


@click.group(
    cls=LazyGroup,
    commands_at=VERBS,
    help="Manage the fleet's data\n\nExample: pyswarm system df --verbose",
)
def system() -> None:
    pass
