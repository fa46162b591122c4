"""`depends_on` of a spec."""

from pyswarm_core.specs import ContainerSpec, ServiceSpec, TaskSpec
from pyswarm_core.stacks.dependencies import Dependency
from pyswarm_core.stacks.limits import DEPENDENCIES_MAX
from pyswarm_core.validation import service_problems


def problems(*names: str) -> list[str]:
    """The problems of a web that depends on these."""
    spec = ServiceSpec(
        name="web",
        task_template=TaskSpec(container_spec=ContainerSpec(image="busybox")),
        depends_on=tuple(Dependency(service=name) for name in names),
    )
    return [str(problem) for problem in service_problems(spec)]


def test_other_services_are_named() -> None:
    assert problems("db", "shop_cache") == []


def test_a_service_does_not_depend_on_itself() -> None:
    [text] = problems("db", "web")
    assert "depends_on" in text
    assert "a service cannot depend on itself (web → web)" in text


def test_each_is_named_once() -> None:
    [text] = problems("db", "db")
    assert "expected each service once" in text


def test_names_are_those_of_services() -> None:
    assert len(problems("not a name")) == 1
    assert len(problems("")) == 1


def test_a_service_has_so_many_dependencies() -> None:
    names = [f"s{number}" for number in range(DEPENDENCIES_MAX + 1)]
    assert problems(*names[:-1]) == []
    [text] = problems(*names)
    assert f"{DEPENDENCIES_MAX}" in text
