"""Validation of stacks, beside that of the objects in them. PURE."""

from collections.abc import Iterable, Iterator, Mapping

from pyswarm_core.docker.units import human_size
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.stacks.limits import (
    STACK_OBJECTS_MAX,
    STACK_REQUEST_BYTES_MAX,
    STACK_SERVICES_MAX,
)
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem


def stack_problems(spec: StackSpec) -> list[Problem]:
    """The problems of the stack itself: its name, how many objects it has, and their names and
    labels.
    """
    problems = [*text.name_problems("stack", spec.name)]
    for kind, named in _sections(spec):
        most = STACK_SERVICES_MAX if kind == "service" else STACK_OBJECTS_MAX
        if len(named) > most:
            problems.append(Problem(f"{kind}s", len(named), f"expected at most {most}", "count"))
        problems += _of_objects(spec.name, kind, named)
    data = sum(len(one.data) for one in (*spec.secrets, *spec.configs))
    if data > STACK_REQUEST_BYTES_MAX:
        expected = f"expected at most {human_size(STACK_REQUEST_BYTES_MAX)} of all together"
        problems.append(Problem("secrets and configs", human_size(data), expected, "size"))
    return problems


def _sections(spec: StackSpec) -> Iterator[tuple[str, list[tuple[str, Mapping[str, str]]]]]:
    """The names and labels of the objects of each kind."""
    yield "service", [(one.name, one.labels) for one in spec.services]
    yield "network", [(one.name, one.labels) for one in spec.networks]
    yield "volume", [(one.name, one.labels) for one in spec.volumes]
    yield "secret", [(one.spec.name, one.spec.labels) for one in spec.secrets]
    yield "config", [(one.spec.name, one.spec.labels) for one in spec.configs]


def _of_objects(
    stack: str, kind: str, named: Iterable[tuple[str, Mapping[str, str]]]
) -> Iterator[Problem]:
    seen: dict[str, None] = {}
    for name, labels in named:
        if not name:
            yield Problem(f"{kind} name", name, "expected a name: a stack has no nameless objects")
        elif name in seen:
            yield Problem(f"{kind} name", name, "expected each name once")
        elif labels.get(STACK_LABEL) != stack:
            value = labels.get(STACK_LABEL, "")
            expected = f"expected {STACK_LABEL}={stack} for {kind} {name}"
            yield Problem("--label", value, expected)
        seen[name] = None
