"""`pyswarm compose` on a real fleet: what a user of Docker Compose types."""

import json
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, IMAGE, PYSWARM, Fleet
from tests.e2e.acceptance.web import reached
from tests.fixtures.terminal import Terminal

FILE = """\
services:
  app:
    build: .
    image: APP
    entrypoint: [sh, -c, 'echo "app began"; exec sh /server']
    ports: ["PORT:80"]
    depends_on: {db: {condition: service_healthy, restart: true}}
    environment: [GREETING]
    stop_grace_period: 0s
  db:
    image: IMAGE
    entrypoint: [sh, -c, 'echo "db began"; exec sleep 1000']
    healthcheck: {test: [CMD, test, -d, /data], interval: 1s, start_period: 5s}
    volumes: ["data:/data"]
    stop_grace_period: 0s
  migration:
    image: IMAGE
    entrypoint: [sh, -c, 'echo "migrated"; exit ${CODE:-0}']
    restart: "no"
volumes: {data: {}}
"""
_numbers = count(1)


class Project:
    """A project in a folder of its own."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        number = next(_numbers)
        self.fleet, self.folder, self.name = fleet, folder, f"shop{number}"
        self.app, self.port = f"{self.name}/app:1", 28300 + number
        text = FILE.replace("IMAGE", IMAGE).replace("APP", self.app)
        (folder / "compose.yaml").write_text(text.replace("PORT", str(self.port)))
        (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL version=1\n")
        self.words = ("compose", "-f", str(folder / "compose.yaml"), "-p", self.name)

    def __call__(self, *words: str) -> str:
        code, out, told = self.code(*words)
        assert code == 0, f"{words}: exit {code}\n{told}{out}"
        assert "Traceback" not in told
        return out.strip()

    def code(self, *words: str, **more: str) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        done = subprocess.run(
            [PYSWARM, *self.words, *words],
            env={**self.fleet.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def typed(self, *words: str) -> Terminal:
        return Terminal([str(PYSWARM), *self.words, *words], self.fleet.environment)

    def containers(self, *flags: str) -> dict[str, str]:
        """The ids of the containers by Compose's names."""
        rows = [
            line.split() for line in self("ps", "--format", "{{.Name}} {{.ID}}", *flags).split("\n")
        ]
        return {row[0]: row[1] for row in rows if row}


@pytest.fixture
def shop(fleet: Fleet, tmp_path: Path) -> Iterator[Project]:
    project = Project(fleet, tmp_path)
    yield project
    code, _, told = project.code("down", "-v", "--remove-orphans", "--rmi", "local", "-t", "0")
    assert code == 0, told
    fleet.run("rmi", project.app)


def test_a_project_lives_from_up_to_down(shop: Project) -> None:
    shop("up", "-d")
    assert set(shop.containers()) == {f"{shop.name}-app-1", f"{shop.name}-db-1"}
    assert set(shop.containers("-a")) - set(shop.containers()) == {f"{shop.name}-migration-1"}
    reached(shop.fleet, "lan", "10.99.0.2", shop.port)
    assert shop("port", "app", "80") == f"0.0.0.0:{shop.port}"
    assert shop("ps", "--services").split() == ["app", "db"]
    first = shop.containers("-a")
    shop("up", "-d")
    assert shop.containers("-a") == first, "an unchanged file replaces nothing"

    logs = shop("logs").split("\n")
    assert sorted(line for line in logs if "began" in line or "migrated" in line) == [
        "app-1        | app began",
        "db-1         | db began",
        "migration-1  | migrated",
    ]
    assert shop("logs", "--no-log-prefix", "--tail", "1", "db") == "db began"
    assert shop("exec", "-T", "db", "sh", "-c", "echo kept > /data/file; cat /data/file") == "kept"
    code, out, _ = shop.code("exec", "-T", "app", "sh", "-c", "echo out; exit 3")
    assert (code, out) == (3, "out\n")
    assert shop("top", "db").split("\n")[1].startswith("db")
    assert shop.name in shop.fleet("compose", "ls", "-q").split()
    shown = [row["ContainerName"] for row in _json(shop("images", "--format", "json"))]
    assert shown == [f"{shop.name}-app-1", f"{shop.name}-db-1", f"{shop.name}-migration-1"]
    assert shop("volumes", "-q") == f"{shop.name}_data"

    shop("down")
    assert shop.containers("-a") == {}
    shop("up", "-d", "db")
    assert set(shop.containers()) == {f"{shop.name}-db-1"}
    assert shop("exec", "-T", "db", "cat", "/data/file") == "kept"
    shop("down", "-v")
    assert shop("volumes", "-q") == ""
    assert shop.name not in shop.fleet("compose", "ls", "-a", "-q").split()


def test_services_are_scaled_stopped_started_restarted_and_killed(shop: Project) -> None:
    shop("up", "-d", "--scale", "app=3")
    names = {f"{shop.name}-app-{number}" for number in (1, 2, 3)}
    assert set(shop.containers("app")) == names
    code, out, _ = shop.code("exec", "-T", "--index", "3", "app", "hostname")
    assert (code, bool(out)) == (0, True)
    shop("scale", "app=2")
    assert len(shop.containers("app")) == 2

    before = shop.containers()
    shop("restart", "db")
    after = shop.containers()
    assert before[f"{shop.name}-db-1"] != after[f"{shop.name}-db-1"]
    shop.fleet.until(
        lambda: not set(before.values()) & set(shop.containers().values()),
        "app follows the restart of db",
    )
    shop.fleet.until(lambda: len(shop.containers("app")) == 2, "both run again")

    shop("stop", "app")
    assert set(shop.containers()) == {f"{shop.name}-db-1"}
    assert all(
        "exited" in line for line in shop("ps", "-a", "--format", "{{.State}}", "app").split("\n")
    )
    shop("start", "app")
    assert len(shop.containers("app")) == 2
    shop("kill", "app")
    shop.fleet.until(lambda: shop.containers("app") == {}, "nothing starts those that were killed")
    shop("rm", "-f", "app")
    assert shop.containers("-a", "app") == {}


def test_a_pulled_image_replaces_the_service_once(shop: Project) -> None:
    shop("up", "-d", "app")
    first = shop.containers()
    (shop.folder / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL version=2\n")
    shop.fleet("build", "-q", "-t", shop.app, str(shop.folder))
    (shop.folder / "other.yaml").write_text(
        (shop.folder / "compose.yaml").read_text().replace("    build: .\n", "")
    )
    words = ("compose", "-f", str(shop.folder / "other.yaml"), "-p", shop.name)
    shop.fleet(*words, "up", "-d")
    app = f"{shop.name}-app-1"
    assert shop.containers()[app] == first[app], "without a pull the digest stays"
    shop.fleet(*words, "pull", "app")
    assert shop.containers()[app] == first[app], "a pull replaces nothing"
    shop.fleet(*words, "up", "-d")
    second = shop.containers()
    assert second[app] != first[app]
    shop.fleet(*words, "pull", "app")
    shop.fleet(*words, "up", "-d")
    assert shop.containers() == second

    (shop.folder / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL version=3\n")
    shop("up", "-d", "--build")
    third = shop.containers()
    assert third[app] != second[app]
    shop("up", "-d", "--build")
    assert shop.containers() == third, "a build from the cache replaces nothing"


def test_up_follows_the_logs_until_it_is_interrupted(shop: Project) -> None:
    with shop.typed("up", "app") as terminal:
        terminal.until("Attaching to app-1")
        terminal.until("app-1 .*app began")
        terminal.type("\x03")
        terminal.until("Gracefully stopping... \\(press Ctrl\\+C again to force\\)")
        assert terminal.ended() == 130
    # Services that were only started for others are stopped too.
    assert shop.containers() == {}
    assert set(shop.containers("-a")) == {f"{shop.name}-app-1", f"{shop.name}-db-1"}


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_of_a_service_is_that_of_up(shop: Project, code: int) -> None:
    found, out, told = shop.code("up", "--exit-code-from", "migration", CODE=str(code))
    assert found == code, told
    assert "migrated" in out
    assert f"Aborting on container exit: {shop.name}-migration-1" in told
    assert shop.containers() == {}


def test_a_service_that_fails_fails_up(shop: Project) -> None:
    code, _, told = shop.code("up", "-d", CODE="5")
    assert code == 4, told
    assert f"service {shop.name}_migration cannot converge" in told


def test_run_has_a_container_of_its_own(shop: Project) -> None:
    script = "echo $GREETING; test -d /data || echo none; exit 7"
    code, out, told = shop.code(
        "run", "--rm", "-e", "GREETING=hi", "--entrypoint", "sh", "app", "-c", script
    )
    assert (code, out) == (7, "hi\nnone\n"), told
    assert set(shop.containers("-a")) == {f"{shop.name}-db-1"}, "what app needs was started"
    name = shop("run", "-d", "--no-deps", "--name", f"{shop.name}-job", "db").split()[-1]
    assert name == f"{shop.name}-job"
    assert name in shop.containers("-a")
    assert name not in shop.containers()


def test_what_left_the_files_stays_until_it_is_removed(shop: Project) -> None:
    shop("up", "-d", "db", "app")
    file = shop.folder / "compose.yaml"
    head, _, rest = file.read_text().partition("  db:\n")
    file.write_text(head.partition("  app:\n")[0] + "  db:\n" + rest)
    _, _, told = shop.code("up", "-d", "db")
    assert f"{shop.name}-app-1" in shop.containers()
    _, _, told = shop.code("up", "-d", "--remove-orphans", "db")
    assert set(shop.containers()) == {f"{shop.name}-db-1"}, told


def _json(text: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(text)
    return found
