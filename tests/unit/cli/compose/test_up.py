"""What `up` and its kin ask of the controller, against a scripted one."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.compose.images import building
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import stacks_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Service
from pyswarm_core.payloads.payload import Config, PayloadId, PayloadSpec
from pyswarm_core.specs import (
    ContainerSpec,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeSpec
from tests.unit.cli import objects
from tests.unit.cli.compose import made
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

FILE = """\
name: shop
services:
  app: {image: "app:1", depends_on: [db], ports: ["8080:80"]}
  db: {image: "db:1", volumes: ["data:/data"]}
  other: {image: "other:1"}
volumes: {data: {}}
"""
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def shop(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    (folder / "compose.yaml").write_text(FILE)
    reply = stacks_pb2.StackReply()
    for name in ("app", "db"):
        reply.changes.add(
            kind="service", name=f"shop_{name}", id=f"id-{name}", action="created", spec_version=1
        )
    reply.changes.add(kind="service", name="shop_old", id="old", action="kept",
                      reason="not in the file; --prune removes it")  # fmt: skip
    reply.changes.add(kind="service", name="shop_other", id="id-other", action="kept",
                      reason="9 by hand, the file says 1; --reset-scale")  # fmt: skip
    reply.changes.add(kind="volume", name="shop_gone", action="kept", reason="volumes are kept")
    script.on("ApplyStack", reply)
    script.on("ListServices", pb.ListServicesReply())
    script.on("ListContainers", cp.ListContainersReply())
    script.on("WatchService", [objects.progress(1, 1)])
    return script


def applied(script: Script) -> ApplyStack:
    """The last stack that was applied."""
    return from_proto(ApplyStack, script.requests("ApplyStack")[-1])


def specs(script: Script) -> dict[str, ServiceSpec]:
    return {one.name: one for one in applied(script).spec.services}


def test_up_applies_the_files_and_waits(shop: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("compose", "up", "-d")
    assert (ran.code, ran.out) == (0, "")
    request = applied(shop)
    assert request.spec.name == "shop"
    assert sorted(specs(shop)) == ["shop_app", "shop_db", "shop_other"]
    assert [one.name for one in request.spec.volumes] == ["shop_data"]
    assert (request.services, request.recreate, request.prune) == ((), (), False)
    assert (request.resolve_image, request.reset_scale) == ("changed", False)
    assert {one.ref for one in shop.requests("WatchService")} == {"id-app", "id-db", "id-other"}
    told = ran.err.split("\n")
    assert told[:2] == ["Creating service shop_app", "Creating service shop_db"]
    assert "Keeping service shop_old: not in the file; --remove-orphans removes it" in told
    kept = "Keeping service shop_other: 9 by hand, the file says 1; `up --scale` sets it"
    assert kept in told
    assert "shop_gone" not in ran.err


@pytest.mark.parametrize(
    ("flags", "services"),
    [
        (["app"], ("shop_app", "shop_db")),
        (["db"], ("shop_db",)),
        (["--no-deps", "app"], ("shop_app",)),
    ],
)
def test_a_service_comes_with_what_it_depends_on(
    shop: Script, pyswarm: Pyswarm, flags: list[str], services: tuple[str, ...]
) -> None:
    assert pyswarm("compose", "up", "-d", *flags).code == 0
    assert tuple(sorted(applied(shop).services)) == services


def test_flags_of_up_are_those_of_the_request(shop: Script, pyswarm: Pyswarm) -> None:
    pyswarm("compose", "up", "-d", "--force-recreate", "--remove-orphans", "--pull", "always")
    request = applied(shop)
    assert sorted(request.recreate) == ["shop_app", "shop_db", "shop_other"]
    assert (request.prune, request.resolve_image) == (True, "always")
    pyswarm("compose", "up", "-d", "--scale", "app=3")
    assert getattr(specs(shop)["shop_app"].mode, "replicas", 0) == 3
    assert (applied(shop).rescaled, applied(shop).reset_scale) == (("shop_app",), False)
    pyswarm("compose", "create", "--scale", "app=3")
    assert applied(shop).rescaled == ("shop_app",)
    ran = pyswarm("compose", "up", "-d", "--scale", "ap=3")
    assert (ran.code, "did you mean app?" in ran.err) == (2, True)


def test_services_keep_their_digests(shop: Script, pyswarm: Pyswarm) -> None:
    template = objects.service().spec.task_template
    container = replace(template.container_spec, image=f"app:1@{DIGEST}")
    app = made.service("app", task_template=replace(template, container_spec=container))
    shop.on("ListServices", objects.services_reply(app))
    pyswarm("compose", "up", "-d", "--pull", "never")
    images = {name: one.task_template.container_spec.image for name, one in specs(shop).items()}
    assert images == {
        "shop_app": f"app:1@{DIGEST}",
        "shop_db": "db:1",
        "shop_other": "other:1",
    }
    pyswarm("compose", "up", "-d", "--no-recreate")
    assert sorted(applied(shop).services) == ["shop_db", "shop_other"]


@pytest.mark.parametrize("verb", [("up",), ("up", "-d"), ("create",)])
def test_a_dry_run_prints_what_would_change(
    shop: Script, pyswarm: Pyswarm, verb: tuple[str, ...]
) -> None:
    ran = pyswarm("compose", *verb, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.split("\n")[0] == "+ service shop_app would be created"
    assert applied(shop).dry_run
    assert shop.requests("WatchService") == []


def test_create_starts_nothing_new_and_stops_nothing(shop: Script, pyswarm: Pyswarm) -> None:
    shop.on("ListServices", objects.services_reply(made.service("app")))
    assert pyswarm("compose", "create").code == 0
    stopped = {name: one.stopped for name, one in specs(shop).items()}
    assert stopped == {"shop_app": False, "shop_db": True, "shop_other": True}


def test_a_fault_of_a_file_ends_up_before_anything_changes(shop: Script, pyswarm: Pyswarm) -> None:
    Path("compose.yaml").write_text("services: {app: {image: app, network_mode: 'service:db'}}")
    ran = pyswarm("compose", "up", "-d")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: compose.yaml:1:")
    assert shop.asked == []


def test_names_of_services_in_flags_are_those_of_the_files(shop: Script, pyswarm: Pyswarm) -> None:
    for flag in ("--attach", "--no-attach", "--exit-code-from"):
        ran = pyswarm("compose", "up", flag, "ap")
        assert (ran.code, "did you mean app?" in ran.err) == (2, True)
    assert pyswarm("compose", "up", "-d", "nope").code == 2
    assert shop.requests("ApplyStack") == []


def test_a_project_without_builds_builds_nothing(shop: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("compose", "build")
    assert (ran.code, ran.err) == (0, "No services to build\n")
    assert shop.asked == []


def test_up_ends_when_a_service_cannot_start(shop: Script, pyswarm: Pyswarm) -> None:
    """As in Compose, although no container has ended: nothing would ever come."""
    shop.on("ListServices", objects.services_reply(made.service("app"), made.service("db")))
    reply = cp.ListContainersReply()
    for view in (made.view("app", "1", ContainerState.CREATED), made.view("db", "1")):
        to_proto(view, reply.containers.add())
    shop.on("ListContainers", reply)
    waiting = pb.ListTasksReply()
    task = waiting.tasks.add(name="shop_app.1")
    task.task.id, task.task.detail.message = "task-app-1", "waits for shop_db to complete"
    shop.on("ListTasks", waiting)
    failing = objects.progress(0, 1)
    failing.failure = "shop_db ended with exit code 3"
    shop.on("WatchService", [failing])
    ran = pyswarm("compose", "up", "--no-attach", "app", "--no-attach", "db", "app")
    assert ran.code == 4
    told = ran.err.split("\n")
    assert "app-1: waits for shop_db to complete" in told
    assert told[-2] == "Error: service app cannot start: shop_db ended with exit code 3"


@pytest.mark.parametrize("known", [(), ("data",), ("data", "legacy")])
def test_up_makes_no_external_volume(
    shop: Script, pyswarm: Pyswarm, tmp_path: Path, known: tuple[str, ...]
) -> None:
    file = tmp_path / "external.yaml"
    file.write_text(
        """\
name: shop
services:
  app: {image: "app:1", volumes: ["data:/data", "old:/old"]}
  other: {image: "other:1", volumes: ["unseen:/x"]}
volumes: {data: {external: true}, old: {external: true, name: legacy}, unseen: {external: true}}
"""
    )
    volumes = [Volume(id=VolumeId(name), spec=VolumeSpec(name=name)) for name in known]
    objects_ = [pb.EncodedObject(value=encode(one)) for one in volumes]
    shop.on("ListObjects", pb.ListObjectsReply(objects=objects_))
    ran = pyswarm("compose", "-f", str(file), "up", "-d", "app")
    missing = [name for name in ("data", "legacy") if name not in known]
    assert [f"there is no volume {name}" in ran.err for name in missing] == [True] * len(missing)
    assert (ran.code, bool(shop.requests("ApplyStack"))) == ((2, False) if missing else (0, True))
    assert "unseen" not in ran.err


EXTERNAL = """\
name: shop
services:
  app:
    image: app:1
    networks: [net]
    secrets: [key]
    configs: [conf, seen]
  other: {image: "other:1", networks: [unseen]}
networks:
  net: {external: true}
  unseen: {external: true}
secrets:
  key: {external: true, name: token}
configs:
  conf: {external: true}
  seen: {external: true}
"""


@pytest.mark.parametrize(
    "verb",
    [
        ("compose", "-f", "FILE", "up", "-d", "app"),
        ("compose", "-f", "FILE", "run", "-d", "app"),
        ("compose", "-f", "FILE", "create", "app"),
        ("stack", "deploy", "-c", "FILE", "shop"),
        ("stack", "deploy", "-c", "FILE", "--plan", "shop"),
    ],
)
def test_what_is_external_and_missing_is_named_with_its_place(
    shop: Script, pyswarm: Pyswarm, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    file = tmp_path / "external.yaml"
    file.write_text(EXTERNAL)
    seen = Config(id=PayloadId("c1"), spec=PayloadSpec(name="seen"))
    answers = {"config": [pb.EncodedObject(value=encode(seen))]}
    shop.on("ListObjects", lambda asked: pb.ListObjectsReply(objects=answers.get(asked.kind, [])))
    shop.on("GetNetwork", pb.NetworkReply())
    ran = pyswarm(*(str(file) if word == "FILE" else word for word in verb))
    assert ran.code == 2
    told = [
        ("10:8", "networks.net", "there is no network net"),
        ("13:8", "secrets.key", "there is no secret token"),
        ("15:9", "configs.conf", "there is no config conf"),
    ]
    if verb[0] == "stack":
        told.append(("11:11", "networks.unseen", "there is no network unseen"))
    for place, path, text in told:
        assert f"external.yaml:{place}: {path}: {text}, and no apply makes" in ran.err
    assert ran.err.count("there is no") == len(told)
    changing = [rpc for rpc, _ in shop.asked if not rpc.startswith(("List", "Get"))]
    assert changing == []


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ("{}", "no service selected: the files define none"),
        (
            "{a: {image: x, profiles: [p]}}",
            "no service selected: all have profiles: --profile enables those of p",
        ),
    ],
)
def test_up_without_a_service_says_why(
    shop: Script, pyswarm: Pyswarm, tmp_path: Path, services: str, told: str
) -> None:
    file = tmp_path / "none.yaml"
    file.write_text(f"name: shop\nservices: {services}\n")
    for flags in ((), ("-d",), ("-d", "--remove-orphans")):
        ran = pyswarm("compose", "-f", str(file), "up", *flags)
        assert (ran.code, ran.err) == (2, f"Error: {told}\n")
    assert not shop.requests("ApplyStack")


@pytest.mark.parametrize(
    ("flags", "state", "recreated"),
    [
        (("-d",), ContainerState.EXITED, ["shop_db"]),
        (("-d", "app"), ContainerState.EXITED, ["shop_db"]),
        (("-d",), ContainerState.RUNNING, []),
        (("--no-start",), ContainerState.EXITED, []),
    ],
)
def test_up_starts_what_has_ended(
    shop: Script,
    pyswarm: Pyswarm,
    flags: tuple[str, ...],
    state: ContainerState,
    recreated: list[str],
) -> None:
    once = TaskSpec(
        container_spec=ContainerSpec(image="db:1"),
        restart_policy=RestartPolicy(condition=RestartCondition.NONE),
    )
    shop.on("ListServices", objects.services_reply(made.service("db", task_template=once)))
    containers = cp.ListContainersReply()
    to_proto(made.view("db", "1", state, exit_code=1), containers.containers.add())
    shop.on("ListContainers", containers)
    assert pyswarm("compose", "up", *flags).code == 0
    assert list(applied(shop).recreate) == recreated


def on_the_fleet(shop: Script) -> tuple[Service, Service, Service]:
    """Services that end by themselves, of which the last one is stopped."""
    once = RestartPolicy(condition=RestartCondition.NONE)
    template = replace(objects.service().spec.task_template, restart_policy=once)
    app, db, other = (made.service(one, task_template=template) for one in ("app", "db", "other"))
    other = replace(other, spec=replace(other.spec, stopped=True))
    known = {one.id: one for one in (app, db, other)}
    shop.on("ListServices", objects.services_reply(*known.values()))
    for rpc in ("GetService", "UpdateService"):
        shop.on(rpc, lambda request: objects.service_reply(known[request.ref]))
    return app, db, other


def updates(shop: Script) -> list[tuple[str, bool, int]]:
    """The services that were changed: whether they are stopped, and their replicas."""
    return [
        (one.ref, one.spec.stopped, one.spec.mode.replicated.replicas)
        for one in shop.requests("UpdateService")
    ]


def test_no_recreate_starts_what_does_not_run_as_it_is(shop: Script, pyswarm: Pyswarm) -> None:
    on_the_fleet(shop)
    containers = cp.ListContainersReply()
    for view in (
        made.view("db", "1", ContainerState.EXITED, exit_code=1),
        made.view("app", "1"),
    ):
        to_proto(view, containers.containers.add())
    shop.on("ListContainers", containers)
    ran = pyswarm("compose", "up", "-d", "--no-recreate")
    assert ran.code == 0, ran.err
    assert shop.requests("ApplyStack") == []
    again = [("id-of-db", True, 1), ("id-of-db", False, 1), ("id-of-other", False, 1)]
    assert updates(shop) == again
    assert {one.ref for one in shop.requests("WatchService")} == {"id-of-db", "id-of-other"}
    shop.asked.clear()
    assert pyswarm("compose", "up", "-d", "--no-recreate", "--no-deps", "app").code == 0
    assert updates(shop) == []


def test_no_recreate_scales_what_exists(shop: Script, pyswarm: Pyswarm) -> None:
    on_the_fleet(shop)
    flags = ("--no-recreate", "--scale", "app=3")
    assert pyswarm("compose", "up", "-d", *flags, "app").code == 0
    assert updates(shop) == [("id-of-app", False, 3)]


@pytest.mark.parametrize("verb", [("up", "--no-start"), ("create",), ("up", "-d", "--dry-run")])
def test_no_recreate_starts_nothing_that_is_only_created(
    shop: Script, pyswarm: Pyswarm, verb: tuple[str, ...]
) -> None:
    on_the_fleet(shop)
    ran = pyswarm("compose", *verb, "--no-recreate")
    assert (ran.code, updates(shop)) == (0, [])
    assert ran.out == ("~ service shop_other would be started\n" if "-d" in verb else "")


NOTICED = """\
name: shop
services:
  app: {image: "app:1", mac_address: "02:00:00:00:00:01"}
  db: {image: "db:1", storage_opt: {size: 1G}}
networks:
  default: {driver: bridge}
"""
OF_APP, OF_DB, OF_NETWORK = "services.app.mac_", "services.db.storage_opt", "networks.default.dr"


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        ({}, []),
        ({"service shop_app": "created", "service shop_db": "created",
          "network shop_default": "created"}, [OF_APP, OF_DB, OF_NETWORK]),
        ({"service shop_app": "unchanged", "service shop_db": "unchanged",
          "network shop_default": "unchanged"}, []),
        ({"service shop_app": "kept", "service shop_db": "updated"}, [OF_DB]),
        ({"service shop_app": "replaced", "service shop_db": "kept"}, [OF_APP]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "verb",
    [
        ("compose", "-f", "FILE", "up", "-d"),
        ("compose", "-f", "FILE", "up", "--dry-run"),
        ("stack", "deploy", "-c", "FILE", "shop"),
    ],
)
def test_notices_are_about_what_is_created_or_changed(
    shop: Script,
    pyswarm: Pyswarm,
    tmp_path: Path,
    verb: tuple[str, ...],
    actions: dict[str, str],
    told: list[str],
) -> None:
    file = tmp_path / "noticed.yaml"
    file.write_text(NOTICED)
    reply = stacks_pb2.StackReply()
    for one, action in actions.items():
        kind, _, name = one.partition(" ")
        reply.changes.add(kind=kind, name=name, id=name, action=action)
    shop.on("ApplyStack", reply)
    ran = pyswarm(*(str(file) if word == "FILE" else word for word in verb))
    lines = [line for line in ran.err.split("\n") if line.startswith("Notice: ")]
    assert len(lines) == len(told), ran.err
    assert all(any(path in line for line in lines) for path in told)


def test_builds_tell_what_their_sections_have_no_effect_with(
    shop: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = "build: {context: ., sbom: true}, mac_address: a"
    Path("compose.yaml").write_text(f"name: shop\nservices: {{a: {{{build}}}, b: {{image: b}}}}")
    monkeypatch.setattr(building, "build_all", lambda *given: {})
    ran = pyswarm("compose", "build")
    notices = [line for line in ran.err.split("\n") if line.startswith("Notice")]
    assert [line.split(": ")[2] for line in notices] == ["services.a.build.sbom"], ran.err
