"""A busy host greets in time: with what it was a moment ago."""

import asyncio

import pytest

from agent.network.base import NetworkFailed
from agent.session import greeting
from agent.session.greeting import Greeting, Greetings
from pyswarm_core.objects import NodeDescription


class Kernel:
    """Answers once `answers` is set, or fails."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.hostname = "first"
        self.examined = 0
        self.failures = 0

    async def examine(self) -> Greeting:
        self.examined += 1
        await self.answers.wait()
        if self.failures:
            self.failures -= 1
            raise NetworkFailed("netlink: out of memory")
        return Greeting(NodeDescription(hostname=self.hostname), "192.0.2.1")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "EXAMINE_S", 0.01)


async def test_each_session_greets_with_what_the_kernel_says_now() -> None:
    kernel = Kernel()
    async with asyncio.TaskGroup() as group:
        greetings = Greetings(kernel.examine, group)
        assert (await greetings.current()).description.hostname == "first"
        kernel.hostname = "second"
        assert (await greetings.current()).description.hostname == "second"


async def test_a_kernel_that_does_not_answer_delays_no_session_and_is_asked_once() -> None:
    kernel = Kernel()
    async with asyncio.TaskGroup() as group:
        greetings = Greetings(kernel.examine, group)
        await greetings.current()
        kernel.answers.clear()
        kernel.hostname = "second"
        for _ in range(3):
            assert (await greetings.current()).description.hostname == "first"
        assert kernel.examined == 2
        kernel.answers.set()
        assert (await greetings.current()).description.hostname == "second"


async def test_the_first_session_waits_for_a_kernel_that_fails() -> None:
    kernel = Kernel()
    kernel.failures = 2
    async with asyncio.TaskGroup() as group:
        greetings = Greetings(kernel.examine, group)
        assert (await greetings.current()).description.hostname == "first"
    assert kernel.examined == 3
