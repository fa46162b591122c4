"""Why a name has no running task, and what to do."""

import pytest
from msgspec.structs import replace

from controller.api.queries.lookup import find_target
from controller.brain.slices import finish
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import Service
from pyswarm_core.states import TaskState
from tests.fixtures import build

DB = build.container("db")
STOPPED = replace(DB, spec=replace(DB.spec, stopped=True))
START, WHY = "`pyswarm start db` starts it", "`pyswarm why db` says why"


@pytest.mark.parametrize(
    ("service", "state", "said"),
    [
        (DB, TaskState.COMPLETE, f"container db is not running: {START}"),
        (STOPPED, TaskState.PENDING, f"container db is not running: {START}"),
        (DB, TaskState.PENDING, f"container db is not running: {WHY}"),
        (build.service("db"), TaskState.COMPLETE, f"service db has no running task: {WHY}"),
    ],
)
def test_what_does_not_run_says_what_to_do(service: Service, state: TaskState, said: str) -> None:
    found = build.state(
        nodes=build.nodes(1), services=[service], tasks=[build.task("db.1", node="n1", state=state)]
    )
    with pytest.raises(Conflict, match=f"^{said}$"):
        finish(find_target(found, "db"))
