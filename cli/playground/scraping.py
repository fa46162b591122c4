"""Reads the metrics of a playground's daemons, as a Prometheus in a host's network would. SHELL."""

import http.client
import ssl
import threading
from concurrent.futures import Future
from typing import Self

import msgspec
from pyroute2 import netns

from cli.client import Client
from cli.playground.fleet import Host
from pyswarm_core.identity.trust import AGENT_NAME, SERVER_NAME
from pyswarm_core.limits import AGENT_METRICS_PORT
from pyswarm_core.plaintext import split_lines

TIMEOUT_S = 1.0


class Scraper(msgspec.Struct, frozen=True):
    """What the daemons require of a scraper."""

    ca_pem: str
    token: str

    @classmethod
    def of(cls, client: Client) -> Self:
        """Of the client's fleet. Raises PyswarmError."""
        return cls(client.ca().certificate, client.scrape_token())

    def read(self, host: Host, port: int) -> dict[str, float]:
        """The metrics at a port of the host, by name with labels. Raises OSError, HTTPException."""
        lines = split_lines(self.text(host, port))
        rows = (line.rpartition(" ") for line in lines if line[:1] not in ("", "#"))
        return {name: float(value) for name, _, value in rows}

    def text(self, host: Host, port: int) -> str:
        """The text of the metrics at a port of the host. Raises OSError, HTTPException."""
        answer: Future[str] = Future()
        thread = threading.Thread(target=self._read_inside, args=(host, port, answer))
        thread.start()
        thread.join()
        return answer.result()

    def _read_inside(self, host: Host, port: int, answer: Future[str]) -> None:
        """Runs on its own thread, which enters the host's network namespace."""
        try:
            netns.setns(str(host.netns_path), flags=0)
            answer.set_result(self.fetch(host.address, port))
        except BaseException as error:
            answer.set_exception(error)

    def fetch(self, address: str, port: int, timeout_s: float = TIMEOUT_S) -> str:
        """The text of the metrics at this address. Raises OSError, HTTPException."""
        name = AGENT_NAME if port == AGENT_METRICS_PORT else SERVER_NAME
        connection = _Connection(address, port, timeout_s, name, self.ca_pem)
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            connection.request("GET", "/metrics", headers=headers)
            with connection.getresponse() as reply:
                text = reply.read().decode()
            if reply.status != 200:
                raise http.client.HTTPException(f"{address}:{port} answered {reply.status}")
            return text
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTPS with a server whose name is not its address."""

    def __init__(self, host: str, port: int, timeout_s: float, name: str, ca_pem: str) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._name = name
        self._context = ssl.create_default_context(cadata=ca_pem)

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)
