"""What a service of mode container may have."""

import pytest
from msgspec.structs import replace

from cli.service.spec.template import with_replicas
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import (
    ContainerMode,
    NetworkAttachment,
    Placement,
    RestartCondition,
    ServiceSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.validation import service_problems
from tests.fixtures import build

PLAIN = build.container("db").spec
START_FIRST = UpdateConfig(order=UpdateOrder.START_FIRST)


def problems(spec: ServiceSpec) -> list[str]:
    return [str(problem) for problem in service_problems(spec)]


@pytest.mark.parametrize("condition", RestartCondition)
def test_any_restart_condition_is_allowed(condition: RestartCondition) -> None:
    assert problems(build.container("db", condition=condition).spec) == []
    assert problems(replace(PLAIN, mode=ContainerMode(unless_stopped=True))) == []


def test_one_that_removes_itself_is_not_restarted() -> None:
    assert problems(build.container("db", auto_remove=True).spec) == []
    restarted = build.container("db", auto_remove=True, condition=RestartCondition.ANY).spec
    (problem,) = problems(restarted)
    assert problem == '--restart: value "any" is not valid: expected no with --rm'


@pytest.mark.parametrize(
    ("spec", "flag"),
    [
        (replace(PLAIN, update_config=START_FIRST), "--update-order"),
        (replace(PLAIN, rollback_config=START_FIRST), "--rollback-order"),
    ],
)
def test_its_tasks_never_run_side_by_side(spec: ServiceSpec, flag: str) -> None:
    (problem,) = problems(spec)
    assert problem.startswith(f'{flag}: value "start-first" is not valid: expected stop-first')


def test_it_has_no_maximum_per_node() -> None:
    template = replace(PLAIN.task_template, placement=Placement(max_replicas=1))
    (problem,) = problems(replace(PLAIN, task_template=template))
    assert problem.startswith("--replicas-max-per-node: value 1 is not valid")


def test_it_is_not_scaled() -> None:
    with pytest.raises(InvalidArgument, match="a container has one replica, which keeps its"):
        with_replicas(PLAIN, 2, given_as="db: scale")


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (("bridge", "app"), ""),
        (("app", "bridge"), ""),
        (("host", "app"), "--network: value 'host' is not valid: expected no other network"),
        (("none", "app"), "expected no other network beside it"),
        (("bridge", "host"), "expected no other network beside it"),
        (("bridge", "bridge"), "expected each network once"),
    ],
)
def test_a_container_may_be_on_bridge_and_on_networks(targets: tuple[str, ...], told: str) -> None:
    networks = tuple(NetworkAttachment(target=target) for target in targets)
    template = replace(PLAIN.task_template, networks=networks)
    found = problems(replace(PLAIN, task_template=template))
    assert bool(found) == bool(told)
    assert told.replace("'", '"') in "; ".join(found)
    service = replace(build.service("web").spec, task_template=template)
    assert any("expected no other network" in one for one in problems(service))
