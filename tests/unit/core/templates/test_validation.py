"""What a service's spec may have of templates; errors name the flag and the remedy."""

import pytest
from msgspec.structs import replace

from pyswarm_core.specs import ServiceSpec
from pyswarm_core.validation import service_problems
from pyswarm_core.validation.templates.problems import TEMPLATES_MAX
from tests.fixtures import build


def spec(*, replicas: int | None = 1, source: str = "", **container: object) -> ServiceSpec:
    made = build.service("db", replicas=replicas).spec
    made = replace(made, labels={"tier": "back"})
    if source:
        made = build.with_mount(made, source)
    changed = replace(made.task_template.container_spec, **container)
    return replace(made, task_template=replace(made.task_template, container_spec=changed))


def told(made: ServiceSpec) -> str:
    return "; ".join(map(str, service_problems(made)))


@pytest.mark.parametrize(
    "container",
    [
        {"env": ("A={{.Node.Hostname}}", "B={{.Service.Labels.tier}}", 'C={{"{{"}}')},
        {"hostname": "{{.Service.Name}}-{{.Task.Slot}}"},
        {"hostname": "{{.Node.Hostname}}"},
        {"source": "data-{{.Task.Slot}}"},
        {"source": "{{.Service.Name}}-{{.Task.Slot}}-{{index .Service.Labels `tier`}}"},
        {"source": "cache-{{.Node.Hostname}}", "replicas": None},
    ],
)
def test_what_is_valid(container: dict[str, object]) -> None:
    assert told(spec(**container)) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("container", "error"),
    [
        ({"env": ("A={{.Foo}}",)}, '--env: template "A" is not valid: field .Foo does not exist'),
        ({"env": ("A={{.Service.Labels.x}}",)}, "field .x does not exist: expected one of .tier"),
        ({"env": ("A={{ x",)}, 'a literal {{ is written {{"{{"}}'),
        ({"hostname": "{{.Task.Slot"}, '--hostname: template "{{.Task.Slot" is not valid'),
        ({"hostname": "a_{{.Task.Slot}}"}, "--hostname: value"),
        ({"source": "{{.Task.ID}}"}, ".Task.ID is not known there: expected .Service.ID"),
        ({"source": "{{.Node.ID}}"}, ".Node.ID is not known there"),
        ({"source": "a b{{.Task.Slot}}"}, "includes invalid characters for a local volume name"),
        (
            {"source": '{{if eq .Task.Slot "1"}}a{{end}}'},
            "expected .Task.Slot by itself in the name of a volume: data-{{.Task.Slot}}",
        ),
        ({"source": "{{.Task.Slot}}" + "x" * 250}, "expected at most 255 characters"),
        ({"env": ("A={{1}}",) * (TEMPLATES_MAX + 1)}, f"expected at most {TEMPLATES_MAX}"),
        (
            {"env": ("A={{1}}" + "x" * 4_996,) * 2 + ("B={{1}}",)},
            "--env, --mount and --hostname: length 10007 is not valid: expected at most 10000"
            " characters in all of its templates",
        ),
        (
            {"source": "{{.Service.Name}}" * 101},
            "it takes too many steps: expected fewer actions",
        ),
    ],
)
def test_what_is_not_valid(container: dict[str, object], error: str) -> None:
    assert error in told(spec(**container))  # type: ignore[arg-type]


def test_a_secret_in_a_variable_is_not_quoted() -> None:
    assert "hunter2" not in told(spec(env=("A=hunter2{{.Foo}}",)))


def test_docker_expands_nothing_in_containers() -> None:
    made = build.container("c").spec
    container = replace(made.task_template.container_spec, env=("A={{.Foo}}",))
    template = replace(made.task_template, container_spec=container)
    assert told(replace(made, task_template=template)) == ""
