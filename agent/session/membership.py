"""Whether this host has joined a fleet, and how it joins one. SHELL."""

import os
from pathlib import Path

from agent.config import Config
from agent.session.identity import Identity, Joining, join
from agent.session.jointoken import join_token, refusal_recorded
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.objects import NodeDescription


def known_identity(config: Config) -> Identity | None:
    """This node's identity; None if it must join. Raises InvalidArgument if flags to join are
    missing.
    """
    if os.geteuid():
        raise PermissionDenied("the agent must run as root: it makes containers and networks")
    if identity := Identity.load(identity_path(config)):
        return identity
    if not config.controllers or not join_token(config.join_token, config.join_token_file):
        raise InvalidArgument(
            "this host has not joined a fleet: start the agent with --controller HOST:PORT and"
            " --join-token TOKEN (`pyswarm swarm join-token worker` prints both)"
        )
    return None


def identity_path(config: Config) -> Path:
    """Of the file with this node's identity."""
    return config.state_dir / "identity.json"


async def joined(config: Config, description: NodeDescription) -> Identity:
    """Join the fleet of the configuration's token. Raises PyswarmError."""
    with refusal_recorded(config.state_dir):
        joining = Joining(
            join_token(config.join_token, config.join_token_file),
            config.controllers,
            description,
            config.advertise_addr,
            config.availability,
        )
        return await join(identity_path(config), joining)
