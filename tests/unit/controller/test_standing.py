"""A controller stands for election again after a term, unless it stops."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller import app
from controller.app import Controller
from controller.leader.persistence.saving import Deposed

Term = Callable[["Standing"], Coroutine[Any, Any, None]]


class Standing:
    """A controller with an elector that wins."""

    def __init__(self, *terms: Term) -> None:
        self.terms = list(terms)
        self.began = asyncio.Event()
        self._elector: object = None

    async def win(self) -> object:
        return object()

    async def known(self) -> None:
        pass

    async def _lead(self, *_: object) -> None:
        await self.terms.pop(0)(self)


async def deposed() -> None:
    await asyncio.sleep(0)
    raise Deposed("another controller leads")


async def fails_at_its_end(_: Standing) -> None:
    """A part fails while the group waits for its parts: it leaves its task counted as cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(deposed())


async def fails_as_it_is_cancelled(standing: Standing) -> None:
    """The group raises the error alone."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        standing.began.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise Deposed("another controller leads")


async def test_a_term_that_fails_as_the_controller_stops_is_the_last() -> None:
    found: Any = Standing(fails_as_it_is_cancelled)
    standing = asyncio.create_task(Controller._stand(found, found, found, found))
    await found.began.wait()
    standing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(standing, 30)
    assert found.terms == []


async def test_a_term_that_fails_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "RETRY_FIRST_S", 0.001)
    found: Any = Standing(fails_at_its_end, fails_at_its_end, fails_as_it_is_cancelled)
    standing = asyncio.create_task(Controller._stand(found, found, found, found))
    await asyncio.wait_for(found.began.wait(), 30)
    assert not standing.done()
    standing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(standing, 30)
