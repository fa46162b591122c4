"""The cost of services on a host of 50 tasks: the table of a new task, and a change of a service.

In its own network namespace, with the real dataplane. The bound is the time in which one `nft`
process per task would make the same change.
"""

import asyncio
import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from agent.network.base import Attachment, Backend, DesiredEndpoint, DesiredOverlay, Underlay
from agent.network.kernel import KernelDataplane
from bench.report import Figure
from pyswarm_core.ids import NetworkId, ServiceId, TaskId

_NEWNET = 0x4000_0000
_UNDERLAY = "192.0.2.1"
_BACKENDS = 100
_NETWORK = NetworkId("netbench")
_OVERLAY = DesiredOverlay(
    network_id=_NETWORK, name="bench", vni=4097, subnet="10.128.0.0/16", node_number=1,
    local_blocks=("10.128.0.0/24",),
)  # fmt: skip


def measure(quick: bool) -> Iterable[Figure]:
    """Attach with few and many services, then change one service."""
    # On a thread, because it stays in the namespace that it enters.
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as directory:
        yield from pool.submit(_measure, Path(directory), *((5, 2) if quick else (50, 20))).result()


def _measure(directory: Path, tasks: int, rounds: int) -> list[Figure]:
    if ctypes.CDLL(None, use_errno=True).unshare(_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for words in ("link set lo up mtu 1500", f"address add {_UNDERLAY}/32 dev lo"):
        subprocess.run(["ip", *words.split()], check=True)
    return asyncio.run(
        _host(KernelDataplane("bnv", Underlay(address=_UNDERLAY), directory), tasks, rounds)
    )


async def _host(plane: KernelDataplane, tasks: int, rounds: int) -> list[Figure]:
    figures = []
    try:
        for services in (0, 200):
            await plane.sync([_OVERLAY], [_service(n, 0, 3) for n in range(services)])
            cpu = await _attached(plane, services, tasks)
            name = f"attach a task beside {services} services of 3, CPU"
            figures.append(Figure(name, cpu, "ms"))
        batch = _nft_ms(rounds) * tasks
        for words, moved in (("one", 1), ("all", _BACKENDS)):
            changed = await _changed(plane, moved, rounds)
            name = f"change {words} of {_BACKENDS} backends in {tasks} namespaces"
            figures.append(Figure(name, changed, "ms", batch, against="an nft process each"))
    finally:
        for task in await plane.found():
            await plane.detach(task)
        await plane.sync(())
        plane.close()
    return figures


async def _attached(plane: KernelDataplane, round_: int, tasks: int) -> float:
    """CPU time of one attachment, after the tasks of the last round are removed."""
    for task in await plane.found():
        await plane.detach(task)
    await asyncio.sleep(1)
    burnt = time.process_time()
    for number in range(tasks):
        place = Attachment(network_id=_NETWORK, address=f"10.128.0.{number + 2}")
        await plane.attach(TaskId(f"r{round_}t{number}"), [place])
    return (time.process_time() - burnt) * 1e3 / tasks


async def _changed(plane: KernelDataplane, moved: int, rounds: int) -> float:
    await plane.sync([_OVERLAY], [_service(0, 0, _BACKENDS)])
    spans = []
    for turn in range(1, rounds + 1):
        endpoints = [_service(0, turn % 2 * moved, _BACKENDS)]
        start = time.perf_counter()
        await plane.sync([_OVERLAY], endpoints)
        spans.append((time.perf_counter() - start) * 1e3)
    return median(spans)


def _service(number: int, first: int, count: int) -> DesiredEndpoint:
    """A service with `count` backends from the `first` address on."""
    return DesiredEndpoint(
        service_id=ServiceId(f"s{number}"), service_name=f"s{number}", network_id=_NETWORK,
        vip=f"10.128.255.{number}", backends=tuple(_backends(first, count)),
    )  # fmt: skip


def _backends(first: int, count: int) -> Iterator[Backend]:
    for n in range(first, first + count):
        yield Backend(
            task_id=TaskId(f"b{n}"), slot=n, address=f"10.128.{n // 200 + 1}.{n % 200 + 2}"
        )


def _nft_ms(rounds: int) -> float:
    elements = ", ".join(f"{n} : 10.128.1.{n + 2}" for n in range(_BACKENDS))
    choice = f"dnat ip to numgen random mod {_BACKENDS} map {{ {elements} }}"
    text = (
        "table inet bench {\n}\nflush table inet bench\ntable inet bench {\nchain output {\n"
        "type nat hook output priority -100; policy accept;\n"
        f"ip daddr 10.128.255.0 {choice}\n}}\n}}\n"
    )
    spans = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
        spans.append((time.perf_counter() - start) * 1e3)
    return median(spans)
