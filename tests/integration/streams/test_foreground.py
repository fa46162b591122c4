"""The program of a new container in the foreground, as `run` has it."""

import asyncio

from cli.client import Client
from cli.streams import foreground
from cli.streams.program import Stdio
from pyswarm_core.decision import Writes
from pyswarm_core.states import TaskState
from pyswarm_core.streams.frames import Exit
from tests.fixtures import build
from tests.integration.streams.conftest import NODE, TASK, WAIT_S, Collected, Rig


def moved(state: TaskState) -> Writes:
    task = build.task("web.1", node=NODE, state=state, task_id=TASK)
    return Writes(tasks=[task])


async def test_a_program_starts_once_it_is_attached_to(rig: Rig) -> None:
    """The task has no node at first; then its agent makes the container."""
    rig.desk.put(moved(TaskState.PENDING))
    seen, looks = Collected(), asyncio.Queue[None]()
    stdio = Stdio(stdin=False, terminal=False, stdout=seen.take_out, stderr=seen.take_err)

    def look() -> Exit | None:
        looks.put_nowait(None)
        return None

    with Client(rig.address) as client:
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            attached = group.create_task(foreground._attached(client, "web", stdio, look))
            await looks.get()
            rig.desk.put(moved(TaskState.PREPARING))
            await rig.create(script="echo hello; exit 6")
            await rig.until_attached()
            await rig.start()
    assert (attached.result(), bytes(seen.out)) == (Exit(6), b"hello\n")


async def test_a_task_that_failed_before_it_had_a_container(rig: Rig) -> None:
    rig.desk.put(moved(TaskState.REJECTED))
    stdio = Stdio(stdin=False, terminal=False)
    with Client(rig.address) as client:
        async with asyncio.timeout(WAIT_S):
            ended = await foreground._attached(client, "web", stdio, lambda: Exit(125, "no image"))
    assert ended == Exit(125, "no image")
