"""Which images `down --rmi` removes."""

from contextlib import nullcontext

import pytest

from cli.compose.lifecycle import ending, removal
from cli.image import rm, shared
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import NotFound
from pyswarm_core.specs import ContainerSpec, TaskSpec
from tests.unit.cli import objects
from tests.unit.cli.compose import made
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

DIGEST = "sha256:" + "a" * 64


def of(image: str) -> TaskSpec:
    return TaskSpec(container_spec=ContainerSpec(image=image))


@pytest.mark.parametrize(
    ("which", "expected"),
    [(removal.LOCAL, ["shop-app:latest"]), (removal.ALL, ["shop-app:latest", "db:1", "shop-x:1"])],
)
def test_local_images_are_those_of_builds_without_a_name(
    script: Script,
    pyswarm: Pyswarm,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    expected: list[str],
) -> None:
    written = "com.docker.stack.image"
    services = [
        made.service("app", task_template=of(f"shop-app:latest@{DIGEST}")),
        made.service("db", task_template=of("db:1"), labels={**made.labels("db"), written: "db:1"}),
        made.service(
            "x", task_template=of("shop-x:1"), labels={**made.labels("x"), written: "shop-x:1"}
        ),
    ]
    script.on("ListServices", objects.services_reply(*services))
    removed: list[str] = []
    monkeypatch.setattr(removal, "_stack_removed", lambda *_: True)
    monkeypatch.setattr(removal, "_objects_removed", lambda *_: True)
    monkeypatch.setattr(removal, "_present", lambda *_: ())
    monkeypatch.setattr(ending, "oneoffs_removed", lambda *_: None)
    monkeypatch.setattr(shared, "opened_or_none", lambda *_, **__: nullcontext())
    monkeypatch.setattr(rm, "remove", lambda _, __, name, *___, **____: removed.append(name))
    ran = pyswarm("compose", "-p", "shop", "down", "--rmi", which)
    assert (ran.code, sorted(removed)) == (0, sorted(expected))


def test_down_says_that_there_is_nothing_of_the_project(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListServices", objects.services_reply()).on("ListObjects", pb.ListObjectsReply())
    script.on("ListContainers", cp.ListContainersReply()).on("GetObject", NotFound("no stack"))
    ran = pyswarm("compose", "-p", "shpo", "down")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == 'Warning: No resource found to remove for project "shpo"\n'
    script.on("ListServices", objects.services_reply(made.service("app")))
    script.on("RemoveService", objects.service_reply()).on("WatchService", NotFound("gone"))
    script.on("GetService", NotFound("gone"))
    assert "No resource" not in pyswarm("compose", "-p", "shop", "down").err
