"""Connections to a local port, forwarded to a port of a task. SHELL.

Each connection is a channel of one stream.
"""

import asyncio
import socket
from contextlib import ExitStack

import click

from cli.client import Client
from cli.errors import Broken
from cli.streams.call import Call, conversing
from pyswarm_core.aio.streams.accepting import accepting
from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.errors import PyswarmError, reason_of
from pyswarm_core.streams.frames import Close, Exit, Started
from pyswarm_core.streams.requests import PORT_FORWARD, PortForwardRequest


def run(client: Client, request: PortForwardRequest, address: str, port: int) -> None:
    """Forward until the process is interrupted. Raises Broken when the stream ends."""
    with _listener(address, port) as listener:
        asyncio.run(forward(client, request, listener))


async def forward(client: Client, request: PortForwardRequest, listener: socket.socket) -> None:
    """The same for a socket that listens, in a running event loop."""

    async def serve(call: Call) -> None:
        await _serve(call, request.port, listener)

    await conversing(client, PORT_FORWARD, request, serve)


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        where = f"[{address}]" if ":" in address else address
        raise PyswarmError(f"cannot listen on {where}:{port}: {reason_of(error)}") from None
    listener.setblocking(False)
    return listener


async def _serve(call: Call, port: int, listener: socket.socket) -> None:
    carrier, is_started = Carrier(call.send), False
    async with asyncio.TaskGroup() as group:
        with ExitStack() as begun:
            while True:
                frame = await call.receive()
                match frame:
                    case Started() if not is_started:
                        is_started = True
                        host, own = listener.getsockname()[:2]
                        click.echo(f"Forwarding from {host}:{own} -> {port}")
                        begun.enter_context(accepting(listener, call.send, carrier, group))
                    case Exit():
                        raise Broken("the agent ended the forwarding")
                    case Close(channel, message) if channel in carrier and message:
                        click.echo(f"Error: port {port}: {message}", err=True)
                        carrier.take(frame)
                    case _:
                        carrier.take(frame)
