"""Results of checks survive whatever ends the agent, and are not written to the disk."""

import asyncio
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.assignment import AssignedTask
from agent.records import Records
from pyswarm_core.clock import MILLISECOND
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import CHECK_RESULTS
from pyswarm_core.specs import HealthConfig
from tests.unit.agent.test_worker import IMAGE, NODE, Host, assigned, task

T1 = TaskId("t1")
MADE = 3 * CHECK_RESULTS


def checked() -> AssignedTask:
    """A task whose check is refused; it may fail often."""
    plain = task()
    check = HealthConfig(test=("TCP", "80"), interval=MILLISECOND, retries=1_000_000)
    container = replace(plain.template.spec.container_spec, healthcheck=check)
    spec = replace(plain.template.spec, container_spec=container)
    return replace(plain, template=replace(plain.template, spec=spec))


async def test_counts_and_results_survive_the_death_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[bytes] = []
    enough = asyncio.Event()

    def refuse(_: Host, pid: int) -> socket.socket:
        on_disk.append((tmp_path / "tasks/t1.json").read_bytes())
        if len(on_disk) > MADE:
            enough.set()
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr(Host, "_refused", refuse)
    host = Host(tmp_path)
    host.registry.push(IMAGE)
    async with host.worker() as worker:
        await worker.assign(assigned(checked()), NODE)
        await enough.wait()
    before = worker.records[T1].health
    assert before is not None
    assert before.failing_streak == before.made >= MADE
    assert len(set(on_disk[1:])) == 1, "the first failure is reported, the others change no state"
    loaded = Records(tmp_path / "tasks", tmp_path / "checks").load()[T1].health
    assert loaded == before
