"""What `logs --details` shows of the tasks' lines. PURE."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote_plus

from controller.api.logs.sources import Details, LogSource
from controller.brain.slices import Slices, batches
from pyswarm_core.docker.logdrivers import Origin, attributes
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Service
from pyswarm_core.specs import TaskSpec
from pyswarm_core.state import State

KEYS_PER_SLICE = 64
"""A slow expression takes 0.1 ms for a long key."""
TASKS_PER_SLICE = 50
"""Rendering a tag takes 0.1 ms."""
_TAG = "tag"


class _Selected(NamedTuple):
    """The labels and variables that a spec selects, as they are printed: those before the tag, one
    that has its name, and those after it.
    """

    before: str
    tag: str
    after: str


class TaskDetails:
    """The details of tasks. Labels and variables are selected once per version of a spec."""

    def __init__(self) -> None:
        self._selected: dict[tuple[ServiceId, int], _Selected] = {}

    def added(self, state: State, sources: Sequence[LogSource]) -> Slices[tuple[LogSource, ...]]:
        """The sources with their details; those of tasks that are gone have none."""
        found: list[LogSource] = []
        for number, source in enumerate(sources, 1):
            if number % TASKS_PER_SLICE == 0:
                yield
            details = yield from self._of(state, source)
            found.append(source._replace(details=details))
        return tuple(found)

    def _of(self, state: State, source: LogSource) -> Slices[Details]:
        task = state.tasks.get(source.task_id)
        service = state.services.get(task.service_id) if task else None
        spec = service.template(task.spec_version) if task and service else None
        if task is None or service is None or spec is None or not spec.log_driver.options:
            return Details()
        key = task.service_id, task.spec_version
        selected = self._selected.get(key)
        if selected is None:
            selected = self._selected[key] = yield from _selected(spec)
        own = attributes(spec.log_driver, {}, (), _origin(service, spec, source))
        return Details(selected.before, _printed(own) or selected.tag, selected.after)


def _origin(service: Service, spec: TaskSpec, source: LogSource) -> Origin:
    return Origin(
        full_id=source.task_id,
        name=service.spec.name if service.spec.mode.is_container else source.task_name,
        image_name=spec.container_spec.image.partition("@")[0],
    )


def _selected(spec: TaskSpec) -> Slices[_Selected]:
    driver, container = spec.log_driver, spec.container_spec
    pairs: dict[str, str] = {}
    for labels in batches(container.labels.items(), KEYS_PER_SLICE):
        pairs |= _pairs(attributes(driver, dict(labels), ()))
        yield
    for env in batches(container.env, KEYS_PER_SLICE):
        pairs |= _pairs(attributes(driver, {}, env))
        yield
    names = sorted(pairs)
    return _Selected(
        ",".join(pairs[name] for name in names if name < _TAG),
        pairs.get(_TAG, ""),
        ",".join(pairs[name] for name in names if name > _TAG),
    )


def _printed(found: Mapping[str, str]) -> str:
    return ",".join(_pairs(found).values())


def _pairs(found: Mapping[str, str]) -> dict[str, str]:
    """Attributes as Docker prints them: `KEY=VALUE`, escaped as in URLs."""
    return {key: f"{quote_plus(key)}={quote_plus(value)}" for key, value in found.items()}
