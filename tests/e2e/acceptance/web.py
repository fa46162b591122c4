"""What the example image answers: who it is, where, and whom it saw."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import msgspec

from bench import wrk
from pyswarm_core.limits import AGENT_METRICS_PORT
from tests.e2e.acceptance.fleet import Fleet
from tests.fixtures.netns import inside

PAGE = "/cgi-bin/index.cgi"
TIMEOUT_S = 3.0
"""Of one of several attempts."""
LATE_S = 10.0 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))
"""When a request that must be answered counts as lost."""


class Answer(msgspec.Struct, frozen=True):
    """One page of the example's server."""

    hostname: str
    addresses: tuple[str, ...]
    client: str


def read(page: str) -> Answer | None:
    """What a page says; None if it is none."""
    lines = dict(line.partition(":")[::2] for line in page.splitlines() if ":" in line)
    if "client" not in lines:
        return None
    return Answer(
        lines["hostname"].strip(), tuple(lines["address"].split()), lines["client"].strip()
    )


def ask(fleet: Fleet, task_id: str, host: str, port: int = 80) -> Answer | None:
    """Ask as a program in the task's container does: by name or address."""
    url = f"http://{host}:{port}{PAGE}"
    wget = ("/bin/timeout", f"{LATE_S:.0f}", "/bin/wget", "-q", "-O", "-", url)
    done = fleet.contained(task_id, *wget)
    return None if done.code else read(done.out)


def ask_from(
    fleet: Fleet, place: str, address: str, port: int = 80, timeout_s: float = TIMEOUT_S
) -> Answer | None:
    """Ask an address from a host, the underlay or a task, whose namespaces Fleet.netns names."""
    return read(fetch(fleet, place, f"http://{address}:{port}{PAGE}", timeout_s))


def attempt(fleet: Fleet, place: str, address: str, port: int) -> str:
    """Connect by TCP from where Fleet.netns says: `open`, `refused` or `lost: WHY`."""

    def work() -> str:
        try:
            socket.create_connection((address, port), LATE_S).close()
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return f"lost: {error}"
        return "open"

    return inside(fleet.netns(place), work)


@contextmanager
def page_outside(fleet: Fleet) -> Iterator[str]:
    """A server on the underlay that is none of the fleet's; yields ADDRESS:PORT."""
    server = inside(fleet.netns("lan"), lambda: socket.create_server(("10.99.0.250", 0)))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(65_536)  # a close with unread bytes would reset the connection
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"10.99.0.250:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.close()


def reached(fleet: Fleet, place: str, address: str, port: int) -> None:
    """Wait until an address answers."""
    fleet.until(lambda: ask_from(fleet, place, address, port), f"{address}:{port} answers {place}")


def answers(fleet: Fleet, place: str, address: str, port: int, backends: int) -> list[Answer]:
    """Wait until many requests in a row are all answered, by so many backends; what they said."""
    found: list[Answer | None] = []

    def ask_all() -> bool:
        found[:] = (ask_from(fleet, place, address, port) for _ in range(8 * backends))
        return all(found) and len({answer.hostname for answer in found if answer}) == backends

    fleet.until(ask_all, f"{address}:{port} leads {place} to {backends} backends")
    return [answer for answer in found if answer]


def listening(fleet: Fleet, service: str) -> None:
    """Wait until every replica of a service does what it is there for: it runs a little earlier."""
    tasks = [task["ID"] for task in fleet.running(service)]
    fleet.until(
        lambda: all(ask_from(fleet, task, "127.0.0.1") for task in tasks),
        f"all of {service} listen",
    )


@contextmanager
def asking(fleet: Fleet, *whom: tuple[str, str, int]) -> Iterator[None]:
    """Ask all the time, each `(place, address, port)` from a thread of its own.

    At the end of the block every request must have been answered within LATE_S.
    """
    ended = threading.Event()

    def work(place: str, address: str, port: int) -> Iterator[Answer | None]:
        while not ended.wait(0.05):
            yield ask_from(fleet, place, address, port, LATE_S)

    with ThreadPoolExecutor(len(whom)) as pool:
        asked = [pool.submit(lambda one=one: list(work(*one))) for one in whom]  # type: ignore[misc]
        try:
            yield
        finally:
            ended.set()
    for one, outcome in zip(whom, asked, strict=True):
        found = outcome.result()
        assert found, one
        assert None not in found, f"{one}: {found.count(None)} of {len(found)} without an answer"


def ask_from_outside(fleet: Fleet, address: str, port: int) -> Answer | None:
    """Ask a published port from a machine that is none of the hosts."""
    return ask_from(fleet, "lan", address, port)


def metric(fleet: Fleet, address: str, name: str) -> float:
    """What an agent measures; 0 while it is away."""
    lines = metrics(fleet, address, AGENT_METRICS_PORT).splitlines()
    return next(
        (float(line.split()[1]) for line in lines if line.startswith(f"pyswarm_agent_{name} ")), 0
    )


def metrics(fleet: Fleet, address: str, port: int) -> str:
    """What a daemon measures, read from a machine that is none of the hosts; "" if nothing."""
    scraper = fleet.scraper
    try:
        return inside(fleet.netns("lan"), lambda: scraper.fetch(address, port, LATE_S))
    except (OSError, HTTPException):
        return ""


def fetch(fleet: Fleet, place: str, url: str, timeout_s: float = TIMEOUT_S) -> str:
    """What is found at a URL; "" if nothing."""
    try:
        return page_at(fleet, place, url, timeout_s)
    except OSError:
        return ""


def page_at(fleet: Fleet, place: str, url: str, timeout_s: float) -> str:
    """What is found at a URL. Raises OSError, which says why nothing is."""

    def get() -> str:
        try:
            with _open(url, timeout=timeout_s) as reply:
                return str(reply.read().decode())
        except HTTPError as error:
            error.close()  # it holds the connection
            raise

    return inside(fleet.netns(place), get)


_open = build_opener(ProxyHandler({})).open


@contextmanager
def loaded(fleet: Fleet, urls: Sequence[str]) -> Iterator[None]:
    """Request every URL all the time, each time on a connection of its own; none may fail."""
    enter = ["nsenter", f"--net={fleet.netns('lan')}", "wrk", "-t", "1", "-c", "2", "-d", "3600"]
    words = [*enter, "--timeout", "30s", "-H", "Connection: close"]
    clients = [subprocess.Popen([*words, url], stdout=subprocess.PIPE) for url in urls]
    try:
        yield
    finally:
        for client in clients:
            client.send_signal(signal.SIGINT)
        said = [client.communicate()[0].decode() for client in clients]
    for text in said:
        counts = wrk.parse(text)
        assert counts.answered > 0
        assert counts.failed == 0, wrk.summary(counts)
