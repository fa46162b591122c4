"""Stacks on a real fleet: deploy, update, roll back, remove, as a user of Docker types it."""

from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet

FILE = f"""
services:
  web:
    image: {IMAGE}
    entrypoint: [sleep, "1000"]
    stop_grace_period: 0s
    environment: {{COLOR: blue}}
    configs: [page]
    deploy: {{replicas: 2}}
  db:
    image: {IMAGE}
    entrypoint: [sleep, "1000"]
    stop_grace_period: 0s
    secrets: [password]
    volumes: ["data:/data"]
volumes:
  data: {{}}
secrets:
  password: {{file: ./password}}
configs:
  page: {{content: "hello"}}
"""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


def files(folder: Path, text: str = FILE, password: str = "one") -> str:
    (folder / "password").write_text(password)
    file = folder / "stack.yaml"
    file.write_text(text)
    return str(file)


def ids(fleet: Fleet, service: str) -> set[str]:
    return {task["ID"] for task in fleet.running(service)}


def test_a_stack_lives_from_deploy_to_rm(fleet: Fleet, tmp_path: Path) -> None:
    file = files(tmp_path)
    plan = fleet("stack", "deploy", "--plan", "-c", file, "shop")
    assert "+ service shop_web would be created" in plan
    assert fleet("stack", "ls", "-q") == ""

    told = fleet("stack", "deploy", "-c", file, "shop")
    assert "Creating network shop_default" in told
    assert "Creating service shop_web" in told
    assert fleet.rows("stack", "ls") == [
        {"Name": "shop", "Services": 2, "Status": "", "Version": 1}
    ]
    services = {one["Name"]: one["Replicas"] for one in fleet.rows("stack", "services", "shop")}
    assert services == {"shop_db": "1/1", "shop_web": "2/2"}
    assert len(fleet.rows("stack", "ps", "shop", "--filter", "desired-state=running")) == 3
    web, db = ids(fleet, "shop_web"), ids(fleet, "shop_db")

    assert fleet("stack", "deploy", "-c", file, "shop") == ""
    assert (ids(fleet, "shop_web"), ids(fleet, "shop_db")) == (web, db)

    file = files(tmp_path, FILE.replace("blue", "green"), password="two")
    plan = fleet("stack", "deploy", "--plan", "-c", file, "shop")
    assert "Env: COLOR=blue -> COLOR=green" in plan
    assert "Secrets: shop_password@1 -> shop_password@2" in plan
    fleet("stack", "deploy", "-c", file, "shop")
    (task,) = fleet.running("shop_db")
    assert fleet.contained(task["ID"], "cat", "/run/secrets/password").out == "two"
    assert not ids(fleet, "shop_web") & web

    fleet("service", "scale", "shop_web=3")
    told = fleet("stack", "deploy", "-c", file, "shop")
    assert told == "Keeping service shop_web: 3 by hand, the file says 2; --reset-scale"
    assert len(ids(fleet, "shop_web")) == 3

    fleet("stack", "rollback", "shop")
    (task,) = fleet.running("shop_db")
    assert fleet.contained(task["ID"], "cat", "/run/secrets/password").out == "one"
    history = fleet.rows("stack", "history", "shop")
    assert [int(one["Version"]) for one in history] == [3, 2, 1]

    fleet("stack", "rm", "shop")
    assert fleet("stack", "ls", "-q") == ""
    assert "shop" not in fleet("network", "ls", "--format", "{{.Name}}")
    assert fleet("volume", "ls", "-q", "--filter", "name=shop_data") == "shop_data"
    fleet("stack", "deploy", "-c", file, "shop")
    fleet("stack", "rm", "shop")
    fleet("volume", "rm", "shop_data")


@pytest.mark.parametrize(
    ("more", "flags", "code", "text"),
    [
        (
            "deploy: {placement: {constraints: [node.hostname==nowhere]}}",
            ("--wait-timeout", "2"),
            5,
            "no suitable node",
        ),
        ('entrypoint: ["/none"], deploy: {restart_policy: {condition: none}}', (), 4, "/none"),
        ("", ("--wait-timeout", "60"), 0, ""),
    ],
)
def test_what_became_of_a_deploy_is_in_its_exit_code(
    fleet: Fleet, tmp_path: Path, more: str, flags: tuple[str, ...], code: int, text: str
) -> None:
    file = tmp_path / "codes.yaml"
    entry = "" if "entrypoint" in more else 'entrypoint: [sleep, "1000"], '
    file.write_text(
        f"services: {{web: {{image: '{IMAGE}', {entry}stop_grace_period: 0s, {more}}}}}"
    )
    done = fleet.run("stack", "deploy", *flags, "-c", str(file), "codes")
    assert done.code == code, done
    assert text in done.err
    fleet("stack", "rm", "codes")


def test_removed_and_deployed_at_once(fleet: Fleet, tmp_path: Path) -> None:
    """The deploy waits for what the removal leaves."""
    file = files(tmp_path)
    fleet("stack", "deploy", "-c", file, "again")
    fleet("stack", "rm", "--detach", "again")
    fleet("stack", "deploy", "-c", file, "again")
    assert len(ids(fleet, "again_web")) == 2
    fleet("stack", "rm", "again")
    fleet("volume", "rm", "again_data")


def test_services_by_hand_that_have_the_label(fleet: Fleet) -> None:
    label = "com.docker.stack.namespace=hand"
    fleet("network", "create", "-d", "overlay", "--label", label, "hand_net")
    create = ["service", "create", "--label", label, "--network", "hand_net"]
    fleet(*create, "--name", "hand_web", "--entrypoint", "sleep", IMAGE, "1000")
    assert fleet.rows("stack", "ls") == [
        {"Name": "hand", "Services": 1, "Status": "", "Version": 0}
    ]
    assert fleet("stack", "services", "-q", "--filter", "name=hand_w", "hand")
    told = fleet("stack", "down", "hand")
    assert told.splitlines() == ["Removing service hand_web", "Removing network hand_net"]
    assert fleet("stack", "ls", "-q") == ""
    assert "hand" not in fleet("network", "ls", "--format", "{{.Name}}")
    assert fleet.run("stack", "rm", "hand").code == 1
