"""The fleet and the client of one invocation of the CLI. SHELL.

`connect` imports gRPC, so that `--help` and usage errors do not.
"""

import os
from typing import TYPE_CHECKING

import click

from cli import context

if TYPE_CHECKING:
    from cli.client import Client


def fleet() -> context.Context:
    """The selected fleet: `--host`, PYSWARM_HOST, the saved context, or this host's socket."""
    return context.current(click.get_current_context().find_root().params.get("host"))


def connect() -> "Client":
    """A client of the selected fleet; closed when the command ends."""
    # gRPC would print log lines beside the one line of an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cli.client import Client

    client = Client(fleet().host)
    click.get_current_context().find_root().call_on_close(client.close)
    return client
