"""Health over HTTP, for probes and load balancers, and nothing else. SHELL.

    GET /healthz   200 while the process answers and its event loop runs
    GET /readyz    200 while it can be used: a controller leads, an agent has a session

Anybody who reaches the address may ask. Otherwise the answer is 503, or 404 for another path.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyswarm_core.aio.http.server import serving

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PASS_TIMEOUT_S = 4.0
"""An event loop that has not run for this long does not run."""


@contextmanager
def serve_health(address: str, ready: Callable[[], bool]) -> Iterator[int]:
    """Serve the health of this process while the block runs; yields the port. Called in the event
    loop. An empty address serves nothing. Raises InvalidArgument if the address cannot be used.
    """
    if not address:
        yield 0
        return
    loop = asyncio.get_running_loop()
    checks = {"/healthz": lambda: _runs(loop), "/readyz": lambda: ready() and _runs(loop)}

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        check = checks.get(environ.get("PATH_INFO", ""))
        if check is None:
            status, text = "404 Not Found", b"expected /healthz or /readyz\n"
        elif environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", b"expected GET\n"
        else:
            is_well = check()
            status = "200 OK" if is_well else "503 Service Unavailable"
            text = b"ok\n" if is_well else b"not ok\n"
        start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text] if environ.get("REQUEST_METHOD") != "HEAD" else []

    with serving("--health-addr", address, answer) as port:
        yield port


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    done = threading.Event()
    try:
        loop.call_soon_threadsafe(done.set)
    except RuntimeError:  # it is closed
        return False
    return done.wait(PASS_TIMEOUT_S)
