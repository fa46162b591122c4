"""The tutorial's web application: Node.js behind nginx, PostgreSQL, Redis, from one Compose file.

Every command of its section is typed in the folder of the file, on a host of the fleet. The tests
go on from each other.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.acceptance import databases, web
from tests.e2e.acceptance.documents import require_true
from tests.e2e.acceptance.fleet import ROOT, Fleet, playground
from tests.e2e.acceptance.projects import HOSTS, Project, answer, fetched
from tests.fixtures.debian import IMAGES_TIMEOUT_S
from tests.fixtures.pages import other_blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]

IMAGES = ("postgres:15", "redis:alpine", "nginx:alpine", "node:18-alpine", "maildev/maildev")
NGINX = f"http://{HOSTS[1]}/"
DIRECT = f"http://{HOSTS[1]}:3000/"
DEV = "compose -f docker-compose.yml -f docker-compose.dev.yml"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with playground(tmp_path_factory.mktemp("home"), nodes=2) as found:
        databases.push(found, *IMAGES)
        yield found


@pytest.fixture(scope="module")
def project(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.of(fleet, "webapp", tmp_path_factory.mktemp("projects"))
    made("compose up -d --build")
    return made


def write(fleet: Fleet, entry: str) -> None:
    assert answer(fleet, f"{NGINX}entries", "-d", entry) == {"added": entry}


def test_it_answers_through_nginx_with_a_row_and_a_counter(fleet: Fleet, project: Project) -> None:
    write(fleet, "hello")
    first, second = answer(fleet, NGINX), answer(fleet, DIRECT)
    assert first["entries"] == second["entries"] == ["hello"]
    assert second["visits"] == first["visits"] + 1
    assert first["mode"] == "production"
    assert {name: len(ids) for name, ids in project.tasks().items()} == {
        "app": 1, "db": 1, "nginx": 1, "redis": 1
    }  # fmt: skip


def test_commands_that_look(fleet: Fleet, project: Project) -> None:
    _, *lines = project("compose ps").splitlines()
    names = [f"webapp-{name}-1" for name in ("app", "db", "nginx", "redis")]
    assert [line.split()[0] for line in lines] == names
    logs = project.run("compose logs --no-color")
    assert "app-1    | listening on 3000" in logs.out
    assert "database system is ready" in logs.err
    assert "# pass 2" in project("compose exec app npm test")
    assert "guestbook" in project("compose config --format json")


def test_an_unchanged_project_is_left_alone(project: Project) -> None:
    before = project.tasks()
    project("compose build")
    project("compose up -d --build")
    assert project.tasks() == before


def test_restart_stop_and_start(fleet: Fleet, project: Project) -> None:
    before = project.tasks()
    with project.following("compose logs -f app") as follower:
        project("compose restart app")
        assert follower.stdout
        heard = (line for line in follower.stdout if "listening" in line)
        assert [next(heard), next(heard)] == ["app-1  | listening on 3000\n"] * 2
    assert answer(fleet, NGINX)["entries"] == ["hello"]
    after = project.tasks()
    assert {name for name in before if before[name] != after[name]} <= {"app"}
    project("compose stop")
    assert project.tasks() == {}
    assert fetched(fleet, NGINX) == ""
    project("compose start")
    assert answer(fleet, NGINX)["entries"] == ["hello"]


def test_three_apps_are_balanced_by_nginx(fleet: Fleet, project: Project) -> None:
    project("compose up -d --scale app=3")
    assert len(project.tasks()["app"]) == 3
    fleet.until(lambda: len(hosts_of(fleet)) == 3, "nginx leads to three apps")
    project("compose up -d --scale app=1")
    assert len(project.tasks()["app"]) == 1


def hosts_of(fleet: Fleet) -> set[str]:
    """Which apps answer thirty requests to nginx."""
    return {answer(fleet, NGINX)["host"] for _ in range(30)}


def test_data_stays_without_v_and_goes_with_it(fleet: Fleet, project: Project) -> None:
    project("compose down")
    assert project.rows("compose ps --all") == []
    assert fleet.rows("service", "ls") == []
    assert [row["Name"] for row in fleet.rows("volume", "ls")] == ["webapp_entries"]
    project("compose up -d")
    assert answer(fleet, NGINX)["entries"] == ["hello"]
    project("compose down -v")
    assert fleet.rows("volume", "ls") == []


def test_developers_see_what_they_save_and_whom_mails_would_reach(
    fleet: Fleet, project: Project
) -> None:
    project(f"{DEV} build")
    project(f"{DEV} up -d")
    first = answer(fleet, NGINX)
    assert (first["mode"], first["entries"]) == ("development", [])
    write(fleet, "by mail")
    (mail,) = answer(fleet, f"http://{HOSTS[0]}:1080/email")
    assert (mail["subject"], mail["text"]) == ("A new entry", "by mail")
    assert web.attempt(fleet, "lan", HOSTS[0], 5432) == "open"
    page = project.folder / "src/server.js"
    page.write_text(page.read_text().replace("visits, entries }", "visits, entries, saved: 1 }"))
    fleet.until(lambda: "saved" in answer(fleet, NGINX), "what was saved is served")
    assert "GET / 200" in project(f"{DEV} logs app")
    project(f"{DEV} down -v")
    assert fleet.rows("volume", "ls") == []


@pytest.mark.nightly
def test_in_production_it_has_few_rights_and_three_replicas(fleet: Fleet, project: Project) -> None:
    prod = "compose -f docker-compose.yml -f docker-compose.prod.yml"
    project(f"{prod} up -d --build --wait")
    assert len(project.tasks()["app"]) == 3
    write(fleet, "hello")
    assert len(hosts_of(fleet)) == 3
    status = project(f"{prod} exec app cat /proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    refused = project.run(f"{prod} exec app touch /app/x")
    assert "Read-only file system" in refused.err + refused.out
    project(f"{prod} exec app touch /tmp/x")
    task = project.tasks()["app"][0]
    assert fleet.limit(task, "pids/pids.max", "pids.max") == "100"
    assert fleet.limit(task, "memory/memory.limit_in_bytes", "memory.max") == str(256 * 1024**2)
    project(f"{prod} down -v")


def test_a_stack_of_it(fleet: Fleet, project: Project) -> None:
    project("build -q -t guestbook:1 .")
    project("stack deploy -c stack.yml guestbook")
    url = f"http://{HOSTS[1]}:8088/"
    assert answer(fleet, f"{url}entries", "-d", "hello") == {"added": "hello"}
    assert answer(fleet, url)["entries"] == ["hello"]
    services = {row["Name"]: row["Replicas"] for row in project.rows("stack services guestbook")}
    assert services == {
        "guestbook_app": "2/2", "guestbook_db": "1/1", "guestbook_nginx": "1/1",
        "guestbook_redis": "1/1",
    }  # fmt: skip
    assert [row["Name"] for row in project.rows("stack ls")] == ["guestbook"]
    project("stack deploy -c stack.yml guestbook")
    project("stack rm guestbook")
    assert fleet.rows("service", "ls") == []
    assert [row["Name"] for row in fleet.rows("volume", "ls")] == ["guestbook_entries"]
    fleet("volume", "rm", "guestbook_entries")


def test_the_first_example_of_the_readme_prints_what_it_shows(fleet: Fleet, tmp_path: Path) -> None:
    page = ROOT / "README.md"
    (text,) = [text for language, text in other_blocks(page.read_text()) if language == "yaml"]
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(text)
    require_true(page, fleet, folder)
    left = [*fleet.rows("service", "ls"), *fleet.rows("volume", "ls")]
    assert [row["Name"] for row in left if row["Name"].startswith("shop_")] == []
