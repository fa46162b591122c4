"""docs/secrets.md is true: its commands, executed in order, print what the page shows.

The long version of its two stories changes the password and the configuration many times.
"""

from functools import partial
from pathlib import Path

import pytest

from tests.e2e.acceptance import databases
from tests.e2e.acceptance.documents import require_true, shell
from tests.e2e.acceptance.fleet import ROOT, Fleet
from tests.e2e.acceptance.web import fetch, loaded
from tests.fixtures.debian import IMAGES_TIMEOUT_S
from tests.fixtures.pages import other_blocks, steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]

PAGE = ROOT / "docs/secrets.md"
FILES = {"sql": "orders.sql", "sh": "new-login", "nginx": "nginx.conf"}
"""What the page calls its blocks of these languages."""
CHANGES = 20
URLS = [f"http://10.99.0.{number}:8080/" for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def _images(fleet: Fleet) -> None:
    databases.push(fleet, "postgres:15", "nginx:1")


@pytest.fixture
def folder(_images: None, tmp_path: Path) -> Path:
    """What the reader of the page has: its files, and the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for language, text in other_blocks(PAGE.read_text()):
        if language in FILES:
            file = tmp_path / FILES[language]
            file.write_text(text)
            file.chmod(0o755)
    return tmp_path


def test_every_command_of_the_page_prints_what_the_page_shows(fleet: Fleet, folder: Path) -> None:
    require_true(PAGE, fleet, folder)


def typed(fleet: Fleet, folder: Path, begin: str) -> str:
    """Run the first command of the page that begins so; what it printed."""
    (command, *_) = (
        one.command for one in steps(PAGE.read_text()) if one.command.startswith(begin)
    )
    done = shell(fleet, folder, command)
    assert done.code == 0, done
    return done.out


def takes_orders(fleet: Fleet, role: str) -> bool:
    count = f"SELECT count(*) > 0 FROM orders WHERE taken_by = '{role}'"
    return fleet("exec", "db", "psql", "-U", "postgres", "-Atc", count) == "t"


def answers(fleet: Fleet, told: str) -> bool:
    return all(fetch(fleet, "lan", url).endswith(told) for url in URLS)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_no_order_fails_while_the_password_changes_often(fleet: Fleet, folder: Path) -> None:
    for begin in (
        "openssl rand",
        "pyswarm service create --name db",
        "pyswarm exec -i db",
        "./new-login blue",
        "pyswarm service create --name shop",
    ):
        typed(fleet, folder, begin)
    tasks = {task["ID"] for name in ("db", "shop") for task in fleet.running(name)}
    change = "./new-login green | pyswarm secret update --reload none shop-login -"
    for number in range(CHANGES):
        role = ("green", "blue")[number % 2]
        done = shell(fleet, folder, change.replace("green", role))
        assert done.code == 0, done
        fleet.until(partial(takes_orders, fleet, role), f"{role} takes orders")
        fleet("exec", "db", "psql", "-qU", "postgres", "-c", "DELETE FROM orders")
    assert fleet("service", "logs", "shop") == ""
    assert {task["ID"] for name in ("db", "shop") for task in fleet.running(name)} == tasks
    fleet("service", "rm", "shop", "db")
    fleet("secret", "rm", "shop-login", "db-password")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_no_request_fails_while_the_configuration_changes_often(fleet: Fleet, folder: Path) -> None:
    typed(fleet, folder, "pyswarm config create")
    typed(fleet, folder, "pyswarm service create --name web")
    fleet.until(lambda: all(fetch(fleet, "lan", url) for url in URLS), "all hosts answer")
    tasks = {task["ID"] for task in fleet.running("web")}
    with loaded(fleet, URLS):
        for number in range(2, CHANGES):
            shell(fleet, folder, rf"sed -i 's/version: [0-9]*/version: {number}/' nginx.conf")
            fleet(
                "config", "update", "--reload", "signal=HUP", "nginx.conf", f"{folder}/nginx.conf"
            )
            told = f"version: {number}\n"
            fleet.until(partial(answers, fleet, told), told)
    assert {task["ID"] for task in fleet.running("web")} == tasks
    fleet("service", "rm", "web")
    fleet("config", "rm", "nginx.conf")
