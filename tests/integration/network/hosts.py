"""Hosts for tests: namespaces on an underlay bridge in a namespace of its own.

A host runs its dataplane in a thread inside its namespace, as an agent started by `nsenter --net`
would.
"""

import asyncio
import os
import queue
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from agent.network.base import Underlay
from agent.network.kernel import KernelDataplane
from tests.fixtures.netns import enter, inside

T = TypeVar("T")

PREFIX = f"psn{os.getpid() % 100000}"
UNDERLAY_GATEWAY = "192.168.77.1"


def sh(command: str) -> str:
    """Run a shell command that must succeed, and return what it prints."""
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def ping(netns: str, address: str, payload: int = 56, timeout_s: float = 60.0) -> bool:
    """Whether `address` answers an ICMP echo that must not be fragmented. `payload` excludes the
    headers: 28 bytes, for IPv6 48. The echo is repeated every second.
    """
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        if _ping(netns, address, payload, min(1.0, left)):
            return True
    return False


def _ping(netns: str, address: str, payload: int, timeout_s: float) -> bool:
    if ":" in address:
        return inside(netns, lambda: _ping6(address, payload, timeout_s))

    def work() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: always DF
            raw.settimeout(timeout_s)
            packet = struct.pack("!BBHHH", 8, 0, 0, 0x7073, 1) + b"p" * payload
            words = struct.unpack(f"!{len(packet) // 2}H", packet)
            total = sum(words)
            total = (total & 0xFFFF) + (total >> 16)
            total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            try:
                raw.connect((address, 0))
                raw.send(packet[:2] + total.to_bytes(2) + packet[4:])
                while True:
                    answer = raw.recv(65536)
                    if answer[20] == 0:
                        return len(answer) == payload + 28
            except (TimeoutError, OSError):
                return False

    return inside(netns, work)


def _ping6(address: str, payload: int, timeout_s: float) -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, 23, 2)  # IPV6_MTU_DISCOVER: never fragment
        raw.settimeout(timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            raw.connect((address, 0))
            raw.send(struct.pack("!BBHHH", 128, 0, 0, 0x7073, 1) + b"p" * payload)
            while time.monotonic() < deadline:
                answer = raw.recv(65536)
                if answer[0] == 129:
                    return len(answer) == payload + 8
        except (TimeoutError, OSError):
            return False
        return False


class Host:
    """A namespace with an interface on the underlay, and a dataplane in it."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.name = f"{PREFIX}-h{number}"
        self.netns = f"/run/netns/{self.name}"
        self.address = f"192.168.77.{10 + number}"
        self.directory = directory / f"h{number}"
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._work = queue.SimpleQueue()
        self._plug_in()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.dataplane = self.call(self._new_dataplane)

    def _plug_in(self) -> None:
        leg, under = f"{PREFIX}l{self.number}", f"{PREFIX}-u"
        sh(f"""ip netns add {self.name}
            ip -n {self.name} link set lo up
            ip -n {under} link add {leg} type veth peer name eth0 netns {self.name}
            ip -n {under} link set {leg} master br0 up
            ip -n {self.name} addr add {self.address}/24 dev eth0
            ip -n {self.name} link set eth0 up
            ip -n {self.name} route add default via {UNDERLAY_GATEWAY}""")

    def _new_dataplane(self, *, fast_path: bool = True) -> KernelDataplane:
        underlay = Underlay(address=self.address)
        return KernelDataplane("tst", underlay, self.directory, fast_path=fast_path)

    def _serve(self) -> None:
        enter(self.netns)
        with asyncio.Runner() as runner:
            while (item := self._work.get()) is not None:
                work, outcome = item
                try:
                    found = work()
                    if asyncio.iscoroutine(found):
                        found = runner.run(found)
                    outcome.set_result(found)
                except BaseException as error:
                    outcome.set_exception(error)

    def call(self, work: Callable[[], T]) -> T:
        """Run plain code in the host's thread."""
        outcome: Future[T] = Future()
        self._work.put((work, outcome))
        return outcome.result(120)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the dataplane to completion."""
        outcome: Future[T] = Future()
        self._work.put((lambda: coroutine, outcome))
        return outcome.result(120)

    def restart(self, *, fast_path: bool = True) -> None:
        """The agent is killed and restarted; the kernel's state stays."""
        self.call(self.dataplane.close)
        self.dataplane = self.call(lambda: self._new_dataplane(fast_path=fast_path))

    def ip(self, arguments: str) -> str:
        """Run `ip` in the host."""
        return sh(f"ip -n {self.name} {arguments}")

    def links(self) -> str:
        """All links, without what changes by itself: a bridge is down some time after its last port
        is removed.
        """
        return re.sub(r"<\S+>|state \w+", "", self.ip("-o link"))

    def nsenter(self, command: str) -> str:
        """Run a command in the host's network namespace."""
        return sh(f"nsenter --net={self.netns} {command}")

    def empty(self) -> None:
        """Remove everything from the host."""
        for task in self.run(self.dataplane.found()):
            self.run(self.dataplane.detach(task))
        self.run(self.dataplane.sync(()))

    def close(self) -> None:
        """Remove the host and everything in it."""
        for task in self.run(self.dataplane.found()):
            self.run(self.dataplane.detach(task))
        self.call(self.dataplane.close)
        self._work.put(None)
        self._thread.join()
        sh(f"ip netns del {self.name}")


class Rig:
    """An underlay and its hosts."""

    def __init__(self, directory: Path, hosts: int) -> None:
        under = f"{PREFIX}-u"
        self.netns = f"/run/netns/{under}"
        sh(f"""ip netns add {under}
            ip -n {under} link add br0 type bridge
            ip -n {under} addr add {UNDERLAY_GATEWAY}/24 dev br0
            ip -n {under} link set br0 up""")
        self.hosts = [Host(number, directory) for number in range(1, hosts + 1)]

    def close(self) -> None:
        """Remove everything."""
        for host in self.hosts:
            host.close()
        sh(f"ip netns del {PREFIX}-u")


@contextmanager
def narrow(number: int, size: int) -> Iterator[None]:
    """The underlay drops larger packets to and from a host, which gets no error."""
    table, leg = f"ip netns exec {PREFIX}-u nft", f"{PREFIX}l{number}"
    sh(f"""{table} add table bridge narrow
        {table} add chain bridge narrow way '{{ type filter hook forward priority 0; }}'
        {table} add rule bridge narrow way iifname {leg} ip length '>' {size} drop
        {table} add rule bridge narrow way oifname {leg} ip length '>' {size} drop""")
    yield
    sh(f"{table} delete table bridge narrow")


@contextmanager
def bare_afterwards(rig: Rig, footprint: Callable[[Host], object]) -> Iterator[None]:
    """Remove everything from the hosts at the end; then their footprints must be as before."""
    before = [footprint(host) for host in rig.hosts]
    yield
    with ThreadPoolExecutor() as pool:
        list(pool.map(Host.empty, rig.hosts))
    assert [footprint(host) for host in rig.hosts] == before
