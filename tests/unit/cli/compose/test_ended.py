"""Which services `up` starts again because they have ended."""

import pytest

from cli.compose.deploying.ended import ended, replaced
from cli.compose.members import Held, Member
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.specs import ContainerSpec, RestartCondition, RestartPolicy, TaskSpec
from tests.unit.cli.compose import made

RUNNING, EXITED, CREATED = made.RUNNING, made.EXITED, ContainerState.CREATED


def of(condition: RestartCondition = RestartCondition.NONE, **spec: object) -> Member:
    policy = RestartPolicy(condition=condition)
    template = TaskSpec(container_spec=ContainerSpec(image="web:1"), restart_policy=policy)
    return made.member("app", task_template=template, **spec)


def holds(*states: ContainerState) -> list[Held]:
    return [made.held("app", number, state) for number, state in enumerate(states, 1)]


@pytest.mark.parametrize(
    ("member", "held", "starts"),
    [
        (of(), holds(EXITED), True),
        (of(RestartCondition.ON_FAILURE), holds(EXITED), True),
        (of(replicas=2), holds(EXITED, ContainerState.DEAD), True),
        (of(RestartCondition.ANY), holds(EXITED), False),
        (of(), holds(RUNNING), False),
        (of(), holds(CREATED), False),
        (of(replicas=2), holds(EXITED, RUNNING), False),
        (of(stopped=True), holds(EXITED), False),
        (of(), [], False),
        (of(), [made.held("app", 0, EXITED), made.held("db", 1, EXITED)], False),
    ],
)
def test_what_has_ended_by_itself_starts_again(
    member: Member, held: list[Held], starts: bool
) -> None:
    assert ended([member], held, completed=True) == ((member,) if starts else ())
    assert ended([member], held, completed=False) == ()


def test_what_has_failed_starts_again_also_where_completed_jobs_stay() -> None:
    held = [*holds(EXITED), made.held("app", 2, EXITED, exit_code=1)]
    member = of(replicas=2)
    assert ended([member], held, completed=False) == (member,)


def test_only_the_ended_tasks_of_these_services_are_replaced() -> None:
    held = [*holds(EXITED, RUNNING), made.held("db", 1, EXITED)]
    assert replaced([of()], held) == {"task-app-1"}
