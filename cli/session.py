"""What one invocation of the CLI shares: which fleet it talks to. SHELL.

gRPC is imported when the first call is made: `--help` and refused flags never pay for it.
"""

import os
from typing import TYPE_CHECKING

import click

from cli import context

if TYPE_CHECKING:
    from cli.client import Client


def fleet() -> context.Context:
    """The fleet in force: `--host`, PYSWARM_HOST, the saved context, this host's socket."""
    return context.current(click.get_current_context().find_root().params.get("host"))


def connect() -> "Client":
    """A client of the fleet in force; closed when the command ends."""
    # gRPC's own log lines would mix with our one line of error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cli.client import Client

    client = Client(fleet().host)
    click.get_current_context().find_root().call_on_close(client.close)
    return client
