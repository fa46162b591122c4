"""`pyswarm swarm`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "ca": ("cli.swarm.ca:ca", "Display and rotate the root CA"),
    "info": ("cli.swarm.info:info", "Display fleet-wide information"),
    "init": ("cli.swarm.init:init", "Initialize a fleet"),
    "join": ("cli.swarm.join:join", "Join a fleet as a node"),
    "join-token": (
        "cli.swarm.join_token:join_token",
        "Display the command that joins a host to the fleet",
    ),
    "leave": ("cli.swarm.leave:leave", "Leave the fleet"),
    "rejoin": ("cli.swarm.rejoin:rejoin", "Get a new certificate for this host's node"),
    "unlock": ("cli.swarm.unlock:unlock", "Unlock this host's controller"),
    "unlock-key": ("cli.swarm.unlock_key:unlock_key", "Display or replace the unlock key"),
    "update": ("cli.swarm.update:update", "Update the fleet's settings"),
    "scrape-token": (
        "cli.swarm.scrape_token:scrape_token",
        "Display the token with which metrics are read",
    ),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage the fleet")
def swarm() -> None:
    pass
