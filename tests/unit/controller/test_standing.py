"""A controller stands for election again after a term, unless it stops."""

import asyncio
from typing import Any

import pytest

from controller.app import Controller
from controller.leader.persistence.saving import Deposed


class Standing:
    """A controller with an elector that wins, and terms that end in failure as it stops."""

    def __init__(self) -> None:
        self.terms = 0
        self.began = asyncio.Event()
        self._elector: object = None

    async def win(self) -> object:
        return object()

    async def known(self) -> None:
        pass

    async def _lead(self, *_: object) -> None:
        self.terms += 1
        self.began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ExceptionGroup("", [Deposed("another controller leads")]) from None


async def test_a_term_that_fails_as_the_controller_stops_is_the_last() -> None:
    """A group of tasks that has an error when it is cancelled raises the error alone."""
    found: Any = Standing()
    standing = asyncio.create_task(Controller._stand(found, found, found, found))
    await found.began.wait()
    standing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(standing, 30)
    assert found.terms == 1
