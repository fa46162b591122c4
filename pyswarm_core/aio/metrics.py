"""Serves /metrics over HTTP, from a thread of its own. SHELL.

The thread only runs while something scrapes; whatever a collector reads must be safe to read beside
the event loop (single values, copies of lists).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, make_wsgi_app

from pyswarm_core.aio.daemon import check_free
from pyswarm_core.errors import invalid


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Not HTTPServer's, which resolves the host's own name: ten seconds without a DNS server.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its base's name
        """Do not log scrapes."""


@contextmanager
def serve_metrics(address: str, registry: CollectorRegistry) -> Iterator[int]:
    """Serve `registry` at `host:port` while the block runs; yields the port (with port 0, the
    chosen one).

    An empty address serves nothing. Raises InvalidArgument if the address cannot be used.
    """
    if not address:
        yield 0
        return
    check_free("--metrics-addr", address)
    host, _, port = address.rpartition(":")
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    try:
        server = _Server((host.strip("[]") or "0.0.0.0", int(port)), _Quiet)
    except (OSError, ValueError, OverflowError) as error:
        expected = f"{error}: expected a free HOST:PORT"
        raise invalid("--metrics-addr", address, expected) from None
    server.set_app(make_wsgi_app(registry))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
