"""Binds of Compose files that are of this host."""

from typing import Any

import pytest

from cli.compose import localbinds
from cli.container import thishost
from cli.container.spec.sources import Here
from compose.report import Refused
from tests.fixtures.mapping import file_of, mapped

HERE = Here("node1", "host1")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> list[Here | str]:
    found: list[Here | str] = [HERE]
    monkeypatch.setattr(thishost, "here", lambda client: found[-1])
    return found


def pinned(lines: str) -> Any:
    files = {"compose.yaml": file_of(lines), "html/": ""}
    return localbinds.pinned(None, mapped(files, files=("compose.yaml",)))  # type: ignore[arg-type]


def constraints(lines: str) -> tuple[str, ...]:
    found: tuple[str, ...] = pinned(lines).spec.services[0].task_template.placement.constraints
    return found


def test_a_service_runs_where_its_files_are() -> None:
    assert constraints("volumes: [./html:/h]") == ("node.id==node1",)
    told = "compose.yaml:4:15: services.a.volumes[0]: ./html: tasks run on this host, host1"
    assert str(pinned("volumes: [./html:/h]").notices[-1]) == told


def test_a_service_without_such_binds_runs_anywhere(here: list[Here | str]) -> None:
    here.append("this host is no node")
    assert constraints("volumes: [/srv:/h]") == ()


def test_a_host_that_is_no_node_is_refused(here: list[Here | str]) -> None:
    here.append("this host is no node")
    with pytest.raises(Refused, match="x-pyswarm") as caught:
        pinned("volumes: [./html:/h, .:/p]")
    assert [fault.path for fault in caught.value.faults] == [
        "services.a.volumes[0]",
        "services.a.volumes[1]",
    ]
    assert caught.value.faults[0].text.startswith("./html is on this host, and this host is no")


def test_another_node_is_refused_unless_the_path_is_absolute() -> None:
    on = "deploy: {placement: {constraints: [node.hostname==host2]}}\n"
    with pytest.raises(Refused, match="host1, but the service demands"):
        pinned(f"{on}volumes: [./html:/h]")
    assert constraints(f"{on}volumes: [/project/html:/h]") == ("node.hostname==host2",)
    same = on.replace("host2", "HOST1")
    assert constraints(f"{same}volumes: [./html:/h]")[1:] == ("node.id==node1",)
