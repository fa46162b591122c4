"""What `inspect` prints of an object has Docker's shape."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pyswarm_core.docker.documents import document, show
from pyswarm_core.specs import GlobalMode, ReplicatedMode, ServiceMode
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
