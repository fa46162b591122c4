"""What the audit record of a change costs: the same changes with and without, in turns. SHELL.

The controller is complete, with its own etcd. Changes that controllers request by themselves have
no record; those of users have one each, in the same transaction.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from bench.control_rig import embedded_etcd, fill, fleet, leader, open_store, service_spec
from bench.report import Figure
from controller.api.changes.services import Update, create_service, update_service
from controller.identity.caller import CONTROLLER, Caller, CallerKind, Role
from controller.leader.leadership import Mutation
from controller.leader.loop import Loop
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.objects import Service
from pyswarm_core.state import State

ALICE = Caller(CallerKind.USER, "u1", "alice", Role.OPERATOR, (), "192.0.2.7")
CALLERS = (CONTROLLER, ALICE)
AT_ONCE = 50


def measure(quick: bool) -> Iterator[Figure]:
    """Services that are changed one after the other, and created many at once."""
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        yield from asyncio.run(_measure(Path(folder), 5 if quick else 300, 2 if quick else 20))


async def _measure(folder: Path, changes: int, batches: int) -> list[Figure]:
    async with embedded_etcd(folder) as etcd:
        async with open_store(etcd) as store:
            await fill(store, fleet(10))
        async with leader(etcd, folder) as loop:
            return [await _changed(loop, changes), await _created(loop, batches)]


async def _changed(loop: Loop, changes: int) -> Figure:
    """One change after the other, from the request to the answer."""
    service = await loop.submit(partial(_creation, 0), CONTROLLER)
    took_ms: dict[Caller, list[float]] = {caller: [] for caller in CALLERS}
    for number in range(changes):
        for caller in CALLERS:
            began = time.perf_counter()
            await loop.submit(_labelled(service, f"{number}/{caller.name}"), caller)
            took_ms[caller].append(1000 * (time.perf_counter() - began))
    without, with_record = (statistics.median(took_ms[caller]) for caller in CALLERS)
    return Figure(
        "a change with its audit record, request to answer",
        with_record,
        "ms",
        note=f"without {without:.2f} ms; medians of {changes} in turns",
    )


async def _created(loop: Loop, batches: int) -> Figure:
    """Many new services at once, by the leader's processor time for each."""
    spent_us: dict[Caller, list[float]] = {caller: [] for caller in CALLERS}
    written: dict[Caller, int] = dict.fromkeys(CALLERS, 0)
    number = 0
    for _ in range(batches):
        for caller in CALLERS:
            saver = loop._tools.saver
            before, used_s = saver.bytes_written, time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    number += 1
                    group.create_task(loop.submit(partial(_creation, number), caller))
            await loop.wait_saved()
            spent_us[caller].append(1e6 * (time.process_time() - used_s) / AT_ONCE)
            written[caller] += saver.bytes_written - before
    without, with_record = (statistics.median(spent_us[caller]) for caller in CALLERS)
    total = batches * AT_ONCE
    return Figure(
        f"{AT_ONCE} services created at once with their audit records, processor time of each",
        with_record,
        "us",
        note=f"without {without:.0f} us; {written[ALICE] // total} bytes stored for each, without"
        f" {written[CONTROLLER] // total}",
    )


def _creation(number: int, state: State, now: Instant, ids: IdSource) -> tuple[Writes, Service]:
    return create_service(state, service_spec(number, 0), (), now, ids)


def _labelled(service: Service, text: str) -> Mutation[Service]:
    """The service with another label."""

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Service]:
        old = state.services[service.id]
        spec = replace(old.spec, labels={**old.spec.labels, "number": text})
        return update_service(state, Update(service.id, old.version, spec), (), now, ids)

    return change
