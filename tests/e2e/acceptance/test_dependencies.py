"""`depends_on` on a real fleet: services wait, go on without a client, follow, and end in order."""

import re
import time
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENCE_S, Fleet

LOOP = "while true; do sleep 0.1; done"
FILE = f"""
services:
  db:
    image: {IMAGE}
    entrypoint: [sleep, "1000"]
    stop_grace_period: 1s
    healthcheck: {{test: [CMD, test, -e, /ready], interval: 1s, retries: 1000, start_period: 60s}}
  migrate:
    image: {IMAGE}
    entrypoint: [sh, -c, "exit $CODE"]
    restart: "no"
  web:
    image: {IMAGE}
    entrypoint: [sh, -c, "trap 'sleep 2; exit 0' TERM; {LOOP}"]
    stop_grace_period: 10s
    depends_on:
      db: {{condition: service_healthy, restart: true}}
      migrate: {{condition: service_completed_successfully}}
"""
WAITS = "waits for shop_db to be healthy (0 of 1)"
ENDED = "shop_migrate ended with exit code 3"


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


def deploy(fleet: Fleet, folder: Path, code: int) -> None:
    """Apply the file and leave."""
    file = folder / "stack.yaml"
    file.write_text(FILE.replace("$CODE", str(code)))
    fleet("stack", "deploy", "--detach", "-c", str(file), "shop")


def seen(fleet: Fleet, text: str) -> str:
    """What `why` says of web once it says this; at last whatever it said."""
    end = time.monotonic() + PATIENCE_S
    while text not in (told := fleet("why", "shop_web")) and time.monotonic() < end:
        time.sleep(0.2)
    return told


def begun(fleet: Fleet, service: str, *, but: str = "") -> dict[str, str]:
    """The service's task that runs, once one does that is not this one."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for task in fleet.tasks(service, "desired-state=running"):
            if task["CurrentState"].split()[0] in ("Starting", "Running") and task["ID"] != but:
                return task
        time.sleep(0.2)
    raise AssertionError(fleet("why", service))


def make_healthy(fleet: Fleet, task_id: str) -> None:
    """The task's check succeeds from now on."""
    assert fleet.contained(task_id, "touch", "/ready").code == 0


def test_a_stack_starts_follows_and_ends_in_order(fleet: Fleet, tmp_path: Path) -> None:
    deploy(fleet, tmp_path, 3)
    told = seen(fleet, ENDED)
    assert ENDED in told
    assert WAITS in told
    assert not fleet.running("shop_web")
    db = begun(fleet, "shop_db")
    make_healthy(fleet, db["ID"])
    deploy(fleet, tmp_path, 0)
    web = begun(fleet, "shop_web")
    assert begun(fleet, "shop_db")["ID"] == db["ID"]

    fleet("service", "update", "--detach", "--force", "shop_db")
    after = begun(fleet, "shop_db", but=db["ID"])
    assert [task["ID"] for task in fleet.running("shop_web")] == [web["ID"]]
    make_healthy(fleet, after["ID"])
    follower = begun(fleet, "shop_web", but=web["ID"])
    assert follower["ID"] != web["ID"]

    fleet("stack", "rm", "shop")
    removed = [line for line in events(fleet) if re.search(r"service.remove\b", line)]
    order = [word for line in removed for word in ("shop_web", "shop_db") if word in line]
    assert order.index("shop_web") < order.index("shop_db"), removed


def events(fleet: Fleet) -> list[str]:
    """What happened, the oldest first, until all services of the stack are gone."""
    end = time.monotonic() + PATIENCE_S
    while fleet("service", "ls", "-q") and time.monotonic() < end:
        time.sleep(0.2)
    return fleet("events", "--since", "10m", "--until", "0s").split("\n")
