"""An update of a secret that many services use: how long the leader's event loop is blocked, and
how long it takes. SHELL.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from bench.control_rig import embedded_etcd, fill, fleet, leader, open_store, service_spec
from bench.control_slices import BOUND_MS, SHOWN
from bench.report import Figure
from bench.slices import Longest, measured
from controller.api.changes.services import create_service
from controller.api.payloads.changes import New, Update, create_payload, update_payload
from controller.identity.caller import ANONYMOUS
from controller.leader.loop import Loop
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.kinds import SECRET
from pyswarm_core.objects import Service
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State

NODES = 100
AT_ONCE = 100


def measure(quick: bool) -> Iterator[Figure]:
    """1,000 services."""
    for services in (20 if quick else 1_000,):
        with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
            yield from asyncio.run(_measure(Path(folder), services))


async def _measure(folder: Path, services: int) -> list[Figure]:
    longest = Longest()
    async with embedded_etcd(folder) as etcd:
        async with open_store(etcd) as store:
            await fill(store, fleet(NODES))
        async with leader(etcd, folder) as loop:
            await _fill_up(loop, services)
            with measured(longest):
                cpu_s, began = time.process_time(), time.perf_counter()
                update = Update("db", b"second")
                made = await loop.submit(
                    lambda state, now, ids: update_payload(state, SECRET, update, now, ids),
                    ANONYMOUS,
                )
                took_s, used_s = time.perf_counter() - began, time.process_time() - cpu_s
    assert len(made.services) == services
    top = longest.top(SHOWN)
    note = ", ".join(f"{name} {1000 * one_s:.0f}" for name, one_s in top)
    what = f"an update of a secret of {services:,} services"
    worst = 1000 * top[0][1] if top else 0.0
    return [
        Figure(f"longest slice, {what}", worst, "ms", BOUND_MS, note=f"processor time; {note}"),
        Figure(f"{what}, until it is stored", took_s, "s", note=f"{used_s:.2f} s processor time"),
    ]


async def _fill_up(loop: Loop, services: int) -> None:
    await loop.submit(
        lambda state, now, ids: create_payload(
            state, SECRET, New(PayloadSpec(name="db"), b"first"), now, ids
        ),
        ANONYMOUS,
    )
    specs = [_spec(index) for index in range(services)]
    for first in range(0, services, AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for spec in specs[first : first + AT_ONCE]:
                group.create_task(loop.submit(partial(_created, spec), ANONYMOUS))
    while any(loop.queue_depths.values()):
        await asyncio.sleep(0.1)
    await loop.wait_saved()


def _created(
    spec: ServiceSpec, state: State, now: Instant, ids: IdSource
) -> tuple[Writes, Service]:
    return create_service(state, spec, (), now, ids)


def _spec(index: int) -> ServiceSpec:
    spec = service_spec(index, 1)
    container = replace(spec.task_template.container_spec, secrets=(syntax.secret("db"),))
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))
