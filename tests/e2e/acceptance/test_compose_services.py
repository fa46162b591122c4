"""The tutorial's services behind a gateway, with a PostgreSQL each and RabbitMQ, and its program
under development.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.acceptance import databases
from tests.e2e.acceptance.fleet import Fleet, playground
from tests.e2e.acceptance.projects import HOSTS, Project, answer, fetched
from tests.fixtures.debian import IMAGES_TIMEOUT_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]

GATEWAY = f"http://{HOSTS[1]}:8080"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with playground(tmp_path_factory.mktemp("home"), nodes=2) as found:
        databases.push(found, "postgres:15", "node:18-alpine", "rabbitmq:3-management")
        yield found


def post(fleet: Fleet, path: str, body: dict[str, str], *options: str) -> dict[str, str]:
    found: dict[str, str] = answer(fleet, f"{GATEWAY}{path}", "-d", json.dumps(body), *options)
    return found


def test_services_find_each_other_their_databases_and_the_queue(
    fleet: Fleet, tmp_path: Path
) -> None:
    project = Project.of(fleet, "microservices", tmp_path)
    project("compose up -d --build")
    assert post(fleet, "/users", {"name": "ann"}) == {"id": 1, "name": "ann"}
    assert answer(fleet, f"{GATEWAY}/users") == [{"id": 1, "name": "ann"}]

    assert json.loads(fetched(fleet, f"{GATEWAY}/orders")) == {"error": "sign in at /auth/login"}
    token = post(fleet, "/auth/login", {"name": "ann"})["token"]
    signed = ("-H", f"Authorization: Bearer {token}")
    assert post(fleet, "/orders", {"item": "book"}, *signed)["item"] == "book"
    confirmed = [{"id": 1, "item": "book", "state": "confirmed"}]
    fleet.until(
        lambda: answer(fleet, f"{GATEWAY}/orders", *signed) == confirmed, "the order is confirmed"
    )
    overview = f"http://{HOSTS[0]}:15672/api/overview"
    assert answer(fleet, overview, "-u", "guest:guest")["rabbitmq_version"].startswith("3.")

    project("compose down")
    project("compose up -d")
    fleet.until(
        lambda: answer(fleet, f"{GATEWAY}/orders", *signed) == confirmed, "the order is kept"
    )
    project("compose down -v")
    assert fleet.rows("service", "ls") == fleet.rows("volume", "ls") == []


def test_a_program_under_development_follows_its_source(fleet: Fleet, tmp_path: Path) -> None:
    project = Project.of(fleet, "local", tmp_path)
    project("compose up -d")
    url = f"http://{HOSTS[1]}:3000/"
    found = answer(fleet, url)
    assert (found["greeting"], found["postgres"][:3]) == ("hello", "15.")
    with project.following("compose logs -f app") as follower:
        page = project.folder / "src/server.js"
        page.write_text(page.read_text().replace('"hello"', '"good morning"'))
        fleet.until(lambda: answer(fleet, url)["greeting"] == "good morning", "it is served")
        assert follower.stdout
        assert any("src/server.js" in line for line in follower.stdout)
    project("compose down -v")
    assert fleet.rows("volume", "ls") == []
