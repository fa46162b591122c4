"""What `inspect` prints of an object has Docker's shape."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pyswarm_core.docker.documents import document, show
from pyswarm_core.docker.objects import of_service
from pyswarm_core.specs import GlobalMode, ReplicatedMode, ServiceMode
from pyswarm_core.stacks.dependencies import Dependency
from tests.fixtures import build


def of(mode: ServiceMode) -> dict[str, Any]:
    service = build.service("web")
    return document(replace(service, spec=replace(service.spec, mode=mode)))


@pytest.mark.parametrize(
    ("mode", "shown"),
    [(ReplicatedMode(replicas=3), {"Replicated": {"Replicas": 3}}), (GlobalMode(), {"Global": {}})],
)
def test_a_mode_is_a_key_with_its_fields(mode: ServiceMode, shown: dict[str, Any]) -> None:
    (line,) = show([of(mode)], "json")
    assert msgspec.json.decode(line)["Spec"]["Mode"] == shown


def test_a_template_may_ask_for_any_mode() -> None:
    form = "{{if .Spec.Mode.Replicated}}{{.Spec.Mode.Replicated.Replicas}}{{else}}all{{end}}"
    assert show([of(ReplicatedMode(replicas=3)), of(GlobalMode())], form) == ["3", "all"]


def test_a_service_shows_what_it_depends_on_and_not_what_was_seen_of_it() -> None:
    service = build.service("web")
    spec = replace(service.spec, depends_on=(Dependency(service="db"),))
    found = of_service(replace(service, spec=spec), lambda _, address: [address])
    assert found["Spec"]["DependsOn"] == [
        {"Service": "db", "Condition": "service_started", "Restart": False, "Required": True}
    ]
    assert "Gate" not in found
