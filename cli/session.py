"""The fleet and the client of one invocation of the CLI. SHELL.

`connect` imports gRPC, so that `--help` and usage errors do not.
"""

import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click

from cli.context import selection
from cli.context.model import Context, Given

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.client import Client

    C = TypeVar("C", bound=Connection)


def given() -> Given:
    """What the global flags and the environment name."""
    flags = click.get_current_context().find_root().params
    return selection.given(flags.get("host"), flags.get("context"))


def fleet() -> Context:
    """The selected context: `--context`, `--host`, PYSWARM_HOST, PYSWARM_CONTEXT, the current one,
    or this host's socket.
    """
    return selection.selected(given())


def connect() -> "Client":
    """A client of the selected fleet; closed when the command ends."""
    _silence()
    from cli.client import Client

    return _opened(Client)


def connection() -> "Connection":
    """As `connect`, for a command that needs none of a client's calls, and starts sooner so."""
    _silence()
    from cli.calls.connection import Connection

    return _opened(Connection)


def _silence() -> None:
    """gRPC would print log lines beside the one line of an error."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _opened(cls: "type[C]") -> "C":
    context = fleet()
    client = cls(context)
    root = click.get_current_context().find_root()
    root.call_on_close(client.close)
    if context.material.cert:
        from cli.context.credentials import after_command

        root.call_on_close(partial(after_command, context, client))  # before `close`
    return client


def renewed(client: "Client") -> "Client":
    """A client with a certificate of the newest root, if the context has one: the controller
    refuses a connection with one of a former root once the rotation has ended.
    """
    from cli.context.credentials import after_command

    context = fleet()
    if not context.name or not context.material.cert:
        return client
    client.ca()  # its answer says whether the certificate is of a former root
    after_command(context, client)
    return connect()
