"""An address that does not answer delays its own containers alone."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.logdrivers import forwarder
from agent.logdrivers.forwarder import Forwarder
from agent.logdrivers.names import Names
from agent.logdrivers.plan import Forwarding
from agent.logdrivers.sinks import Addresses, Turns
from pyswarm_core.docker.logdrivers import Address, LogSettings

RECORD = "2026-01-02T03:04:05.000000007+00:00 stdout F one\n"
PATIENCE_S = 60.0
ALIVE = Address("tcp", "alive", 514)


def dead(number: int) -> Address:
    return Address("tcp", f"dead{number}", 514)


class Network:
    """Stands for the servers: `alive` gets messages, the others hold up who sends."""

    def __init__(self) -> None:
        self.sent = threading.Event()
        self.over = threading.Event()
        self.held = 0

    def sink(self, address: Address, _: Names) -> "_Sink":
        return _Sink(self, address)


class _Sink:
    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._address = address

    def send(self, _: bytes) -> bool:
        if self._address == ALIVE:
            self._network.sent.set()
            return True
        self._network.held += 1
        self._network.over.wait(PATIENCE_S)
        raise OSError("it does not answer")

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("addresses", "held"), [(1, 1), (20, 20)])
async def test_servers_that_do_not_answer_delay_no_container_of_another(
    addresses: int, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network()
    monkeypatch.setattr(forwarder, "Sink", network.sink)
    made = Forwarder(tmp_path, "host1", lambda _: False)
    running = asyncio.create_task(made.run())

    def begin(name: str, address: Address) -> None:
        (tmp_path / name).write_text(RECORD)
        settings = LogSettings(driver="syslog", address=address)
        made.begin(
            name, Forwarding(settings=settings, tag="t", full_id=name, name="web", image="web:1")
        )

    try:
        for number in range(80):
            begin(f"d{number}", dead(number % addresses))
        async with asyncio.timeout(PATIENCE_S / 2):
            while network.held < held:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        begin("a1", ALIVE)
        assert await asyncio.to_thread(network.sent.wait, PATIENCE_S / 2)
        assert network.held == held
    finally:
        network.over.set()
        running.cancel()
        await asyncio.wait([running])
        made.close()


async def test_a_failure_is_a_pause_for_all_containers_of_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def fail(name: str) -> str:
        calls.append(name)
        raise OSError("gone")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    with ThreadPoolExecutor(1) as threads:
        turns = Turns(threads)
        with pytest.raises(OSError, match="gone"):
            await turns.call(fail, "a")
        assert await turns.call(fail, "b") is None
        assert (calls, slept) == (["a"], [1.0])
        turns._not_before_s = 0.0
        with pytest.raises(OSError, match="gone"):
            await turns.call(fail, "b")
        assert turns._not_before_s == 102.0
        turns.worked()
        turns._not_before_s = 0.0
        with pytest.raises(OSError, match="gone"):
            await turns.call(fail, "b")
        assert turns._not_before_s == 101.0


def test_an_address_without_containers_is_forgotten() -> None:
    with ThreadPoolExecutor(1) as threads:
        addresses = Addresses(threads)
        with addresses.turns(ALIVE) as one, addresses.turns(ALIVE) as other:
            assert one is other
        assert not addresses._turns
