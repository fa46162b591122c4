"""Names and connections of syslog servers: time limits, and what is dropped."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.logdrivers import names, sinks
from agent.logdrivers.names import Names
from agent.logdrivers.sinks import TIMEOUT_S, Sink
from pyswarm_core.docker.logdrivers import Address

PATIENCE_S = 60.0
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]


class Dns:
    """Stands for getaddrinfo: names are resolved once `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, port: object, *, flags: int = 0, **_: object) -> Any:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        self.asked.append(host)
        self.open.wait(PATIENCE_S)
        return ANSWER


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    made = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.open.set()


def test_a_name_that_is_not_resolved_holds_nobody_and_is_asked_for_once(dns: Dns) -> None:
    found = Names()
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"^loghost was not resolved within 0\.01 s$"):
            found.addresses("loghost", 0.01)
    assert dns.asked == ["loghost"]
    answer = found._questions["loghost"].answer
    dns.open.set()
    answer.result(PATIENCE_S)
    assert found.addresses("loghost", 0) == [(socket.AF_INET, ("192.0.2.1", 0))]
    assert dns.asked == ["loghost"]
    found.addresses("loghost", PATIENCE_S)
    assert dns.asked == ["loghost"] * 2


def test_an_old_answer_is_asked_for_again(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Names()
    with pytest.raises(TimeoutError):
        found.addresses("loghost", 0)
    answer = found._questions["loghost"].answer
    dns.open.set()
    answer.result(PATIENCE_S)
    monkeypatch.setattr(names, "LATE_S", -1.0)
    found.addresses("loghost", PATIENCE_S)
    assert dns.asked == ["loghost"] * 2


def test_so_many_names_are_resolved_at_once(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "NAMES_MAX", 2)
    found = Names()
    for host in ("a", "b"):
        with pytest.raises(TimeoutError):
            found.addresses(host, 0)
    answers = [question.answer for question in found._questions.values()]
    with pytest.raises(OSError, match="c is not resolved: 2 other names are"):
        found.addresses("c", 0)
    dns.open.set()
    for answer in answers:
        answer.result(PATIENCE_S)
    assert found.addresses("c", PATIENCE_S)


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "." * 10])
def test_what_is_no_name_is_an_error_of_the_system(host: str) -> None:
    with pytest.raises(OSError, match="is no name of a host"):
        Sink(Address("udp", host, 514), Names()).send(b"x")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_all_addresses_of_a_name_share_the_time_of_a_connection(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[Any, float]] = []

    def refuse(_family: int, _kind: int, target: Any, timeout_s: float) -> socket.socket:
        tried.append((target, timeout_s))
        raise OSError("no route")

    many = [(socket.AF_INET, ("192.0.2.1", 0))] + [(socket.AF_INET6, ("2001:db8::1", 0, 0, 0))] * 9
    monkeypatch.setattr(Names, "addresses", lambda *_: many)
    monkeypatch.setattr(sinks, "_connected", refuse)
    with pytest.raises(OSError, match="no route"):
        Sink(Address(kind, "loghost", 601), Names()).send(b"x")
    v6 = ("2001:db8::1", 601, 0, 0)
    assert [target for target, _ in tried] == [("192.0.2.1", 601), v6, v6]
    assert tried[0][1] <= TIMEOUT_S / 3
    assert all(0 < timeout_s <= TIMEOUT_S for _, timeout_s in tried)


def test_the_next_address_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        made = Names()
        found = [(socket.AF_INET, ("127.0.0.2", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
        made.addresses = lambda *_: found  # type: ignore[method-assign]
        sink = Sink(Address("tcp", "loghost", port), made)
        assert sink.send(b"one")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(10) == b"one"
        sink.close()


def test_a_message_that_no_datagram_holds_is_dropped_and_the_next_one_sent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        sink = Sink(Address("unixgram", path=str(tmp_path / "s")), Names())
        assert not sink.send(b"x" * 1_000_000)
        connection = sink._socket
        assert sink.send(b"one")
        assert sink._socket is connection
        assert server.recv(10) == b"one"
        sink.close()
