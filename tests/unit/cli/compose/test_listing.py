"""The verbs that list what a project has, against a scripted controller."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.compose.listing import ls
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import stats_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.docker.containers.views import ContainerState, ContainerView
from pyswarm_core.specs import PortConfig
from pyswarm_core.views import Event, Events
from tests.unit.cli import objects
from tests.unit.cli.compose import made
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_completion import complete

FILE = """\
name: shop
services:
  web: {image: "web:1"}
  debug: {image: tool, profiles: [debug]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    return path


def containers(*views: ContainerView) -> cp.ListContainersReply:
    reply = cp.ListContainersReply()
    for view in views:
        to_proto(view, reply.containers.add())
    return reply


@pytest.fixture
def shop(script: Script) -> Script:
    """Two replicas of web, the first with a port; a database that is an orphan."""
    port = PortConfig(80, published_port=8080)
    script.on(
        "ListServices",
        objects.services_reply(made.service("web", replicas=2), made.service("db")),
    )
    return script.on(
        "ListContainers",
        containers(
            made.view("db", "1", ContainerState.PAUSED),
            made.view("web", "2", made.EXITED, exit_code=3),
            made.view("web", "1", ports=(port,)),
        ),
    )


def test_a_project_needs_no_file_when_it_is_named(shop: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("compose", "-p", "shop", "ps")
    assert (ran.code, ran.err) == (0, "")
    heading, *rows = [line.split() for line in ran.out.strip().split("\n")]
    assert heading == ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    assert [row[0] for row in rows] == ["shop-db-1", "shop-web-1", "shop-web-2"]
    assert rows[1][-1] == "0.0.0.0:8080->80/tcp"
    (asked,) = shop.requests("ListContainers")
    assert list(asked.filters) == ["label=com.docker.compose.project=shop"]
    assert not asked.all


def test_without_a_file_and_a_name_the_error_says_what_is_expected(pyswarm: Pyswarm) -> None:
    ran = pyswarm("compose", "ps")
    assert ran.code == 2
    assert "expected one of compose.yaml" in ran.err


def test_a_name_that_is_not_valid_is_refused(pyswarm: Pyswarm) -> None:
    ran = pyswarm("compose", "-p", "My Shop", "ps")
    assert ran.code == 2
    assert ran.err.startswith('Error: --project-name: value "My Shop" is not valid')


def test_broken_files_do_not_keep_a_named_project_from_being_seen(
    shop: Script, pyswarm: Pyswarm, folder: Path
) -> None:
    (folder / "compose.yaml").write_text("services: [web]")
    ran = pyswarm("compose", "-p", "shop", "ps", "-q")
    assert ran.code == 0
    assert ran.err.startswith("Warning: the files do not count: compose.yaml:1")
    assert ran.out == "task-db-1\ntask-web-1\ntask-web-2\n"


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--services"], "db\nweb\n"),
        (["-q", "web"], "task-web-1\ntask-web-2\n"),
        (["--status", "exited", "-q"], "task-web-2\n"),
        (["--filter", "status=paused", "-q"], "task-db-1\n"),
        (["--no-orphans", "--services"], "web\n"),
        (["--format", "{{.Name}} {{.ExitCode}} {{.Project}}", "web"],
         "shop-web-1 0 shop\nshop-web-2 3 shop\n"),
    ],
)  # fmt: skip
def test_flags_of_ps(
    shop: Script, pyswarm: Pyswarm, folder: Path, flags: list[str], shown: str
) -> None:
    (folder / "compose.yaml").write_text(FILE)
    ran = pyswarm("compose", "ps", *flags)
    assert (ran.code, ran.out, ran.err) == (0, shown, "")


@pytest.mark.parametrize("verb", ["ps", "logs", "stop", "top", "port", "exec", "kill", "rm"])
def test_an_unknown_service_is_refused(shop: Script, pyswarm: Pyswarm, verb: str) -> None:
    more = {"port": ["80"], "exec": ["true"]}.get(verb, [])
    ran = pyswarm("compose", "-p", "shop", verb, "wob", *more)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "Error: no such service: wob; did you mean web?\n"
    changes = [name for name, _ in shop.asked if name not in ("ListServices", "ListContainers")]
    assert changes == []


def test_a_service_of_a_profile_is_known(shop: Script, pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "compose.yaml").write_text(FILE)
    assert pyswarm("compose", "ps", "-q", "debug").out == ""
    ran = pyswarm("compose", "ps", "debugg")
    assert (ran.code, "debugg" in ran.err) == (2, True)


def test_a_port_is_that_of_a_container(shop: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("compose", "-p", "shop", "port", "web", "80").out == "0.0.0.0:8080\n"
    ran = pyswarm("compose", "-p", "shop", "port", "web", "81")
    assert (ran.code, ran.err) == (1, "Error: no port 81/tcp for container shop-web-1\n")
    ran = pyswarm("compose", "-p", "shop", "port", "--index", "7", "web", "80")
    assert "--index: service web has no container 7: it has 1, 2" in ran.err


def test_projects_are_listed_with_the_states_of_their_containers(
    script: Script, pyswarm: Pyswarm
) -> None:
    other = made.view("x", "1", made.EXITED, labels=made.labels("x", "other"), service_id="o")
    script.on("ListServices", objects.services_reply(made.service("web")))
    views = [made.view("web", "1"), made.view("web", "2", made.EXITED), other]
    script.on("ListContainers", containers(*views))
    ran = pyswarm("compose", "ls", "-a", "--format", "json")
    assert json.loads(ran.out) == [
        {"ConfigFiles": "", "Name": "other", "Status": "exited(1)"},
        {"ConfigFiles": "", "Name": "shop", "Status": "exited(1), running(1)"},
    ]
    assert pyswarm("compose", "ls", "-q").out == "shop\n"
    assert pyswarm("compose", "ls", "-a", "-q", "--filter", "name=oth").out == "other\n"
    assert "expected name=NAME" in pyswarm("compose", "ls", "--filter", "label=a").err


def test_a_replaced_task_does_not_count_for_its_project() -> None:
    views = [
        made.view("web", "1", made.EXITED, task="old", created_at=Instant(1)),
        made.view("web", "1", task="new", created_at=Instant(2)),
    ]
    (row,) = ls.rows([], views, every=True)
    assert row["Status"] == "running(1)"


def test_events_are_those_of_the_projects_containers(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListServices", objects.services_reply(made.service("web")))
    script.on("ListContainers", containers(made.view("web", "1")))
    at = Instant(1_700_000_000_000_000_000)
    found = [
        Event("container", "die", "t1", "shop_web.1", "exit 1", at=at, stack="shop", node="host1"),
        Event("container", "start", "t2", "other_web.1", at=at, stack="other"),
        Event("container", "start", "t3", "shop_new.2", at=at, stack="shop"),
    ]
    script.on("Events", [to_proto(Events(tuple(found)), pb.EventsReply())])
    words = ("compose", "-p", "shop", "events", "--since", "2023-11-14", "--until", "2023-11-15")
    assert pyswarm(*words).out == (
        "2023-11-14 22:13:20.000000 container die t1"
        " (name=shop-web-1, service=web, node=host1, reason=exit 1)\n"
        "2023-11-14 22:13:20.000000 container start t3 (name=shop-new-2, service=new)\n"
    )
    first = json.loads(pyswarm(*words, "--json", "web").out)
    assert (first["action"], first["service"]) == ("die", "web")
    assert first["attributes"] == {"name": "shop-web-1", "node": "host1", "reason": "exit 1"}


def test_stats_name_containers_by_the_ids_that_ps_shows(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListServices", objects.services_reply(made.service("web")))
    view = replace(made.view("web", "1"), id="container1", task_id="task1")
    script.on("ListContainers", containers(view))
    sample = stats_pb2.NamedStats(
        name="shop_web.1",
        container_id="container1",
        stats=stats_pb2.TaskStats(task_id="task1"),
    )
    script.on("Stats", [stats_pb2.StatsReply(tasks=[sample])])
    ran = pyswarm("compose", "-p", "shop", "stats", "--no-stream", "--format", "{{.ID}} {{.Name}}")
    assert ran.out == "container1 shop-web-1\n"


def test_the_version_is_printed(pyswarm: Pyswarm) -> None:
    short = pyswarm("compose", "version", "--short").out.strip()
    assert pyswarm("compose", "version").out == f"pyswarm compose version {short}\n"
    assert json.loads(pyswarm("compose", "version", "-f", "json").out) == {"version": short}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pyswarm compose logs we", ["web"]),
        ("pyswarm compose exec ", ["web"]),
        ("pyswarm compose --profile debug stop ", ["debug", "web"]),
        ("pyswarm compose up --no-attach w", ["web"]),
        ("pyswarm compose -p shop ps x", []),
    ],
)
def test_services_of_the_files_are_completed(
    script: Script, folder: Path, line: str, offered: list[str]
) -> None:
    (folder / "compose.yaml").write_text(FILE)
    assert complete(script, line) == offered


def test_services_of_a_project_without_files_are_completed(shop: Script) -> None:
    assert complete(shop, "pyswarm compose -p shop top ") == ["db", "web"]
