"""A small HTTP server in threads: one request per connection, bounded in number, time and bytes.
SHELL.

The thread that accepts also ends connections that take too long, and the oldest one when there are
too many. Whatever an application reads must be safe to read beside the event loop (single values,
copies of lists).
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from pyswarm_core.aio.daemon import check_free
from pyswarm_core.errors import invalid
from pyswarm_core.limits import HTTP_CONNECTIONS, HTTP_REQUEST_BYTES, HTTP_TIMEOUT

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

TIMEOUT_S = HTTP_TIMEOUT / 1e9
_PASS_S = 0.5
"""Period of the search for connections that take too long."""


@contextmanager
def serving(
    flag: str,
    address: str,
    application: "WSGIApplication",
    context: Callable[[], ssl.SSLContext | None] | None = None,
) -> Iterator[int]:
    """Serve an application at `host:port` while the block runs; yields the port (with port 0, the
    chosen one). `context` returns the TLS of a new connection; None closes it.

    Raises InvalidArgument if the address cannot be used.
    """
    check_free(flag, address)
    host, _, port = address.rpartition(":")
    try:
        server = _Server((host.strip("[]") or "0.0.0.0", int(port)), application, context)
    except (OSError, ValueError, OverflowError) as error:
        raise invalid(flag, address, f"{error}: expected a free HOST:PORT") from None
    thread = Thread(target=server.serve_forever, args=(_PASS_S,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        server.end_all()
        thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        application: "WSGIApplication",
        context: Callable[[], ssl.SSLContext | None] | None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._context = context
        self._open: dict[socket.socket, float] = {}
        """Connections and when they began, the oldest first."""
        self._lock = Lock()
        super().__init__(address, _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        # Not HTTPServer's, which resolves the host's own name: ten seconds without a DNS server.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; raises OSError if it is closed at once."""
        connection, address = super().get_request()
        connection.settimeout(TIMEOUT_S)
        if self._context is not None:
            try:
                if (context := self._context()) is None:
                    raise ConnectionAbortedError("there is no certificate yet")
                # The handshake comes with the first read, in the connection's own thread.
                connection = context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            except OSError:
                connection.close()
                raise
        with self._lock:
            self._open[connection] = time.monotonic()
            surplus = list(self._open)[:-HTTP_CONNECTIONS]
        for oldest in surplus:
            _end(oldest)
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Runs in the connection's thread."""
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
        super().finish_request(request, client_address)

    def service_actions(self) -> None:
        """Called between accepts: end what takes too long."""
        before = time.monotonic() - TIMEOUT_S
        with self._lock:
            late = [one for one, began in self._open.items() if began < before]
        for one in late:
            _end(one)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not log callers that went away, or do not use TLS."""

    def end_all(self) -> None:
        """End every connection."""
        with self._lock:
            left = list(self._open)
        for one in left:
            _end(one)


def _end(connection: socket.socket) -> None:
    """Wake the thread that reads or writes it. Not by SSLSocket.shutdown, after which that thread
    would write in plain text.
    """
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Bounded:
    """A request that ends after HTTP_REQUEST_BYTES."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._left = HTTP_REQUEST_BYTES

    def readline(self, size: int = -1) -> bytes:
        most = self._left if size < 0 else min(size, self._left)
        line = self._stream.readline(most)
        self._left -= len(line)
        return line

    def read(self, size: int = -1) -> bytes:
        """Requests have no body."""
        return b""

    def close(self) -> None:
        self._stream.close()


class _Answer(ServerHandler):
    server_software = "pyswarm"

    def log_exception(self, exc_info: Any) -> None:
        """The caller went away, or took too long."""


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.rfile = cast(Any, _Bounded(self.rfile))

    def handle(self) -> None:
        """As WSGIRequestHandler's, with our answer."""
        self.raw_requestline = self.rfile.readline(HTTP_REQUEST_BYTES)
        if not self.raw_requestline.endswith(b"\n") or not self.parse_request():
            return
        environ = self.get_environ()
        request, application = cast(Any, self.rfile), cast(Any, self.server).get_app()
        answer = _Answer(
            request, cast(Any, self.wfile), self.get_stderr(), environ, multithread=True
        )
        answer.request_handler = self  # type: ignore[attr-defined]
        answer.run(application)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its base's name
        """Do not log requests."""
