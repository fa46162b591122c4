"""Searches of a registry other than the fleet's, over real HTTP."""

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.image.transfer.remote import Remote
from pyswarm_core.errors import Unavailable
from pyswarm_core.specs import RegistryLogin

Answer = tuple[int, dict[str, str], bytes]
LOGIN = RegistryLogin("registry", "ann", "right")
PAIR = b64encode(b"ann:right").decode()


@contextmanager
def serving(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """A server with these answers in turn; its address, and the authorizations it was shown."""
    left, shown = list(answers), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization", ""))
            status, headers, content = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(*answers: Answer) -> str:
    with serving(*answers) as (address, _), pytest.raises(Unavailable) as raised:
        Remote(address, LOGIN).search("web")
    return str(raised.value).replace(address, "HOST")


def test_a_redirect_to_another_host_gets_no_login() -> None:
    with serving((200, {}, b'{"results": []}')) as (elsewhere, seen):
        moved = (307, {"Location": f"http://{elsewhere}/v1/search"}, b"")
        with serving(moved) as (address, shown):
            assert Remote(address, LOGIN).search("web") == []
    assert (shown, seen) == ([f"Basic {PAIR}"], [""])


@pytest.mark.parametrize("content", [b"<html>log in</html>", b"[]", b""])
def test_what_is_no_json_is_no_registry(content: bytes) -> None:
    found = refused((200, {"Content-Type": "text/html"}, content))
    assert found == "it sends no JSON: it is no registry, or a proxy answers for it"


def test_a_token_that_is_refused_says_why() -> None:
    denied = b'{"errors":[{"code":"DENIED","message":"no such user"}]}'
    left: list[Answer] = [(401, {}, b""), (403, {}, denied)]
    with serving(*left) as (address, _):
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{address}/token"'}
        left[0][1].update(challenge)
        with pytest.raises(Unavailable, match="/token answers 403: DENIED: no such user"):
            Remote(address, LOGIN).search("web")


def test_a_registry_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(Unavailable, match=r"^connection refused$"):
        Remote(address, None).search("web")
