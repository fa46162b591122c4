"""The addresses of this controller's servers: Unix sockets for root, TLS for everybody else. SHELL
over gRPC.

gRPC calls the fetcher in a thread of its own for every handshake. It returns None while nothing has
changed: with a new configuration each time, gRPC crashes under many handshakes at once.
"""

import os
import resource
import threading
from collections.abc import Callable, Iterable

import grpc

from controller.identity.cluster import ServerIdentity
from pyswarm_core.aio.channel import SERVER_OPTIONS
from pyswarm_core.aio.daemon import check_free
from pyswarm_core.errors import InvalidArgument, quoted
from pyswarm_core.limits import CONNECTIONS_MAX

FILES_KEPT = 256
"""Open files that connections to the servers leave free: for the store, above all."""


def server_options() -> tuple[tuple[str, int], ...]:
    """The options of a server. The limit of open files is raised as far as it can be; fewer
    connections than CONNECTIONS_MAX are accepted if it is low.
    """
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    free = 2 * CONNECTIONS_MAX if files == resource.RLIM_INFINITY else files
    accepted = min(CONNECTIONS_MAX, max(free - FILES_KEPT, free // 2))
    return (*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", accepted))


def listen(
    server: grpc.aio.Server, addresses: Iterable[str], current: Callable[[], ServerIdentity]
) -> None:
    """Listen on `unix:///PATH` and `HOST:PORT`. Raises InvalidArgument."""
    for address in addresses:
        check_free("--listen", address)  # a task may have taken it since this process started
        try:
            if address.startswith("unix:"):
                add_socket(server, address)
            else:
                server.add_secure_port(address, server_credentials(current))
        except RuntimeError as error:
            raise InvalidArgument(f"cannot listen on {quoted(address)}: {error}") from None


def add_socket(server: grpc.aio.Server, address: str) -> None:
    """Listen on a Unix socket that only this controller's user may open: the kernel checks it."""
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(address)
    finally:
        os.umask(mask)


def server_credentials(current: Callable[[], ServerIdentity]) -> grpc.ServerCredentials:
    """Credentials of one port: gRPC gives the first configuration to one only. They show the
    current identity in every new handshake, and require a certificate of every caller.
    """
    used = current()
    lock = threading.Lock()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        with lock:
            identity = current()
            if identity is used:
                return None
            used = identity
            return _configuration(identity)

    return grpc.dynamic_ssl_server_credentials(_configuration(used), fetch, True)  # type: ignore[arg-type]  # None is allowed


def _configuration(identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
    pair = (identity.key, identity.chain)
    return grpc.ssl_server_certificate_configuration([pair], identity.roots)
