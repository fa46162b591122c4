"""`pyswarm swarm`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "ca": ("cli.swarm.ca:ca", "Display the root CA certificate"),
    "info": ("cli.swarm.info:info", "Display fleet-wide information"),
    "init": ("cli.swarm.init:init", "Initialize a fleet"),
    "join": ("cli.swarm.join:join", "Join a fleet as a node"),
    "join-token": (
        "cli.swarm.join_token:join_token",
        "Display the command that joins a host to the fleet",
    ),
    "leave": ("cli.swarm.leave:leave", "Leave the fleet"),
    "scrape-token": (
        "cli.swarm.scrape_token:scrape_token",
        "Display the token with which metrics are read",
    ),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage the fleet")
def swarm() -> None:
    pass
