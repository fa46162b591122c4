"""Whose lines are read, which of them are stored, and the details that users request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.logs.details import KEYS_PER_SLICE, TASKS_PER_SLICE, TaskDetails
from controller.api.logs.sources import Details, LogSource, log_sources, require_stored
from controller.brain.slices import finish
from pyswarm_core.clock import Instant
from pyswarm_core.docker.logdrivers import attributes
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import PreviousSpec, Service
from pyswarm_core.specs import LogDriver
from pyswarm_core.state import State
from tests.fixtures import build

NOW = Instant(0)
SILENT = LogDriver(name="none")


def web(
    driver: LogDriver, labels: Mapping[str, str] | None = None, env: tuple[str, ...] = ()
) -> Service:
    template = build.template()
    container = replace(template.container_spec, labels=dict(labels or {}), env=env)
    spec = replace(template, container_spec=container, log_driver=driver)
    return build.service("web", replicas=3, spec=spec, version=5, template_version=5)


def state_of(service: Service, *versions: int) -> State:
    """A task of each version of the service's spec."""
    tasks = [
        build.task(f"web.{slot}", node="n1", version=version)
        for slot, version in enumerate(versions, 1)
    ]
    return build.state(nodes=[build.node("n1")], services=[service], tasks=tasks)


def sources(state: State, named_id: str = "web") -> Sequence[LogSource]:
    return finish(log_sources(state, named_id, NOW)).value.sources


def texts(state: State) -> list[str]:
    return [one.details.text for one in finish(TaskDetails().added(state, sources(state)))]


def earlier(service: Service, driver: LogDriver) -> Service:
    """The service, which had this driver up to version 4."""
    template = replace(service.spec.task_template, log_driver=driver)
    spec = replace(service.spec, task_template=template)
    return replace(service, previous_specs=(PreviousSpec(version=1, spec=spec),))


def test_details_are_sorted_and_escaped_as_docker_does() -> None:
    driver = LogDriver(options={"labels": "z,b,tag", "env": "A,missing", "tag": "{{.Name}}"})
    service = web(driver, {"z": "x y,=ü", "b": "1", "c": "2", "tag": "t"}, ("A=1", "B=2"))
    assert texts(state_of(service, 5)) == ["A=1,b=1,tag=web.1.web.1,z=x+y%2C%3D%C3%BC"]
    without = web(LogDriver(options={"labels": "tag"}), {"tag": "t"})
    assert texts(state_of(without, 5)) == ["tag=t"]
    assert texts(state_of(web(LogDriver()), 5)) == [""]


def test_sources_have_no_details_unless_they_are_added() -> None:
    state = state_of(web(LogDriver(options={"labels": "a"}), {"a": "1"}), 5)
    assert [one.details for one in sources(state)] == [Details()]
    assert texts(state) == ["a=1"]


def test_attributes_are_selected_once_per_version_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matched: list[int] = []

    def counted(
        driver: LogDriver, labels: Mapping[str, str], env: Iterable[str], *more: Any
    ) -> dict[str, str]:
        if keys := len(labels) + len(tuple(env)):
            matched.append(keys)
        return attributes(driver, labels, env, *more)

    monkeypatch.setattr("controller.api.logs.details.attributes", counted)
    driver = LogDriver(options={"labels-regex": ".*.*x", "env-regex": "^b"})
    labels = {f"{number}x": "" for number in range(1000)}
    service = web(driver, labels, tuple(f"b{number}=" for number in range(900)))
    state = state_of(earlier(service, driver), 5, 5, 5, 2)
    all_details = TaskDetails()
    slices = len(list(all_details.added(state, sources(state))))
    found = finish(all_details.added(state, sources(state)))
    assert {one.details.text.count(",") for one in found} == {1899}
    assert sum(matched) == 2 * 1900
    assert max(matched) == KEYS_PER_SLICE
    assert slices == len(matched)
    assert found[0].details.before is found[1].details.before


def test_tags_of_many_tasks_are_rendered_in_slices() -> None:
    state = state_of(web(LogDriver(options={"tag": "{{.ID}}"})), *[5] * (3 * TASKS_PER_SLICE))
    assert len(list(TaskDetails().added(state, sources(state)))) == 3


def test_lines_that_were_stored_can_be_read_though_those_of_later_tasks_are_not() -> None:
    state = state_of(earlier(web(SILENT), LogDriver()), 2, 5)
    found = finish(log_sources(state, "web", NOW)).value
    assert [one.task_id for one in found.sources] == ["web.1"]
    assert found.unstored
    require_stored(state, "web", found)
    assert [one.task_id for one in sources(state, "web.1")] == ["web.1"]


def test_lines_of_later_tasks_can_be_read_though_those_of_earlier_ones_are_not() -> None:
    state = state_of(earlier(web(LogDriver()), SILENT), 2, 5)
    found = finish(log_sources(state, "web", NOW)).value
    assert [one.task_id for one in found.sources] == ["web.2"]
    assert found.unstored
    require_stored(state, "web", found)


@pytest.mark.parametrize("versions", [(), (5,), (5, 5)])
def test_logs_of_tasks_that_store_nothing_are_refused(versions: Sequence[int]) -> None:
    state = state_of(web(SILENT), *versions)
    with pytest.raises(Conflict, match="configured logging driver does not support reading"):
        require_stored(state, "web", finish(log_sources(state, "web", NOW)).value)


def test_a_task_that_stores_nothing_is_refused_by_its_own_spec() -> None:
    state = state_of(earlier(web(LogDriver()), SILENT), 2, 5)
    with pytest.raises(Conflict):
        require_stored(state, "web.1", finish(log_sources(state, "web.1", NOW)).value)
    require_stored(state, "web.2", finish(log_sources(state, "web.2", NOW)).value)
