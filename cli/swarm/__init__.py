"""`pyswarm swarm`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "info": ("cli.swarm.info:info", "Show the fleet and its settings"),
    "init": ("cli.swarm.init:init", "Make this host the first of a fleet"),
    "join": ("cli.swarm.join:join", "Make this host part of a fleet"),
    "join-token": ("cli.swarm.join_token:join_token", "Show how hosts join"),
    "leave": ("cli.swarm.leave:leave", "Take this host out of its fleet"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage the fleet")
def swarm() -> None:
    pass
