"""Both Containerfiles build from a bare Debian, and what is inside works."""

import json
from collections.abc import Iterator

import pytest

from pyswarm_core.version import version
from tests.fixtures.debian import IMAGES_TIMEOUT_S
from tests.helm.rendering import rendered
from tests.integration.helm.builder import Builder, builder

# The first run makes the base and fills the cache; a later one takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]

COMPONENTS = ("controller", "agent")


@pytest.fixture(scope="module")
def build() -> Iterator[Builder]:
    """A builder with its base."""
    with builder() as found:
        yield found


@pytest.fixture(scope="module", params=COMPONENTS)
def built(request: pytest.FixtureRequest, build: Builder) -> tuple[str, str]:
    """A component and its image."""
    return request.param, build.build(request.param)


@pytest.fixture(scope="module")
def inside(build: Builder, built: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """A component and a container of its image."""
    component, image = built
    with build.container(image) as container:
        yield component, container


def test_its_program_explains_itself(build: Builder, inside: tuple[str, str]) -> None:
    component, container = inside
    entry = json.loads(build.run("inspect", "--type=container", container))["OCIv1"]["config"]
    said = build.run_inside(container, *entry["Entrypoint"], "--help")
    assert entry["Entrypoint"] == ["python", "-m", component]
    for flag in rendered().arguments(component):
        assert flag.partition("=")[0] in said


def test_the_command_line_is_there_in_this_version(build: Builder, inside: tuple[str, str]) -> None:
    _, container = inside
    assert build.run_inside(container, "pyswarm", "--version") == f"pyswarm version {version()}\n"


def test_its_user_is_the_charts(build: Builder, inside: tuple[str, str]) -> None:
    component, container = inside
    expected = rendered().pod(component).get("securityContext", {"runAsUser": 0})["runAsUser"]
    assert build.run_inside(container, "id", "-u").strip() == str(expected)


def test_every_module_of_its_program_can_be_imported(
    build: Builder, inside: tuple[str, str]
) -> None:
    component, container = inside
    build.run_inside(container, "python", "-c", f"import {component}.app")


def test_it_carries_what_it_runs(build: Builder, inside: tuple[str, str]) -> None:
    component, container = inside
    if component == "controller":
        assert "etcd Version" in build.run_inside(container, "etcd", "--version")
    else:
        # All that needs no kernel of its own: programs and their versions.
        script = (
            "from agent import preflight as p; "
            "assert p.choose_runtime(p._version('crun'), p._version('runc'))[0] == 'crun'; "
            "print(*(n for n in p.PACKAGES if ' ' not in n and not p._path(n)),"
            " *(not any(map(p.Path, p.INITS))) * ['init'])"
        )
        assert build.run_inside(container, "python", "-c", script).strip() == ""
