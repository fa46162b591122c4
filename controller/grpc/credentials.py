"""The TLS credentials of this controller's servers. SHELL over gRPC.

gRPC calls the fetcher in a thread of its own for every handshake. It returns None while nothing has
changed: with a new configuration each time, gRPC crashes under many handshakes at once.
"""

import threading
from collections.abc import Callable

import grpc

from controller.identity.cluster import ServerIdentity


def server_credentials(current: Callable[[], ServerIdentity]) -> grpc.ServerCredentials:
    """Credentials that show the current identity in every new handshake, and require a certificate
    of every caller.
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
