"""Echoes through a real kernel."""

import asyncio
import socket
import time

import pytest

from pyswarm_core.aio import echo
from pyswarm_core.aio.echo import READS_AT_ONCE, Echoes
from pyswarm_core.clock import MILLISECOND, SECOND


class Outcomes:
    """The answers of each host."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

    def done(self, key: str, answered: bool) -> None:
        self.told.put_nowait((key, answered))


async def test_a_host_that_lives_answers() -> None:
    outcomes = Outcomes()
    echoes = Echoes(outcomes.done)
    try:
        assert echoes.ask("here", "127.0.0.1", 30 * SECOND)
        assert echoes.ask("there", "127.0.0.2", 30 * SECOND)
        assert {await outcomes.told.get() for _ in range(2)} == {("here", True), ("there", True)}
    finally:
        echoes.close()


async def test_a_window_without_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "request", lambda body, sequence: b"\x0d" + bytes(19))  # no echo
    outcomes = Outcomes()
    echoes = Echoes(outcomes.done)
    try:
        assert echoes.ask("here", "127.0.0.1", 30 * MILLISECOND)
        assert await outcomes.told.get() == ("here", False)
    finally:
        echoes.close()


async def test_an_answer_that_nobody_has_read_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "ECHOES_PER_WINDOW", 1)
    outcomes = Outcomes()
    echoes = Echoes(outcomes.done)
    try:
        for name in ("a", "b"):
            assert echoes.ask(name, "127.0.0.1", 30 * SECOND)
        time.sleep(0.05)  # the loop does not run  # noqa: ASYNC251
        echoes._go_on(1)  # the end of the window is reached first
        assert outcomes.told.get_nowait() == ("a", True)
        assert outcomes.told.get_nowait() == ("b", True)
    finally:
        echoes.close()


async def test_all_answers_that_wait_are_heard() -> None:
    outcomes = Outcomes()
    echoes = Echoes(outcomes.done)
    try:
        for number in range(2 * READS_AT_ONCE):
            assert echoes.ask(str(number), f"127.0.0.{number + 1}", 30 * SECOND)
        time.sleep(0.05)  # the loop does not run  # noqa: ASYNC251
        echoes.hear()
        assert outcomes.told.qsize() == 2 * READS_AT_ONCE
    finally:
        echoes.close()


async def test_where_no_socket_can_be_had_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refused)
    echoes = Echoes(Outcomes().done)
    assert not echoes.ask("here", "127.0.0.1", SECOND)
    echoes.close()


async def test_an_address_that_nothing_can_be_sent_to_is_not_asked() -> None:
    echoes = Echoes(Outcomes().done)
    try:
        assert not echoes.ask("here", "::1", SECOND)
    finally:
        echoes.close()


async def test_so_many_hosts_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "ECHOES_AT_ONCE", 2)
    monkeypatch.setattr(echo, "request", lambda body, sequence: b"\x0d" + bytes(19))  # no echo
    echoes = Echoes(Outcomes().done)
    try:
        asked = [echoes.ask(name, "127.0.0.1", 30 * SECOND) for name in ("a", "b", "c")]
        assert asked == [True, True, False]
    finally:
        echoes.close()
