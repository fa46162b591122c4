"""Serves /metrics over HTTP, from a thread of its own. SHELL.

The thread only runs while something scrapes; whatever a collector reads must be safe to read beside
the event loop (single values, copies of lists).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server

from pyswarm_core.errors import InvalidArgument


@contextmanager
def serve_metrics(address: str, registry: CollectorRegistry) -> Iterator[int]:
    """Serve `registry` at `host:port` while the block runs; yields the port (asked for as 0).

    An empty address serves nothing. Raises InvalidArgument if the address cannot be used.
    """
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    try:
        server, thread = start_http_server(int(port), host.strip("[]") or "0.0.0.0", registry)
    except (OSError, ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"metrics address {address!r} cannot be used ({error}): want a free host:port"
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
