"""Files beside a Compose file, on a real fleet: configs, volumes that are uploaded, and binds."""

from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PYSWARM, Fleet
from tests.fixtures.commands import Done

FOLDER = "/var/lib/site"
"""Each host has a /var/lib of its own."""
TAIL = f"""
    image: {IMAGE}
    entrypoint: [sleep, "1000"]
    stop_grace_period: 0s
"""
FILE = f"""
services:
  web:{TAIL}
    environment: {{COLOR: blue}}
    extra_hosts: [up:host-gateway]
    networks: {{default: {{aliases: [web.example.org]}}}}
    volumes:
      - ./site.conf:/etc/site.conf
      - ./start.sh:/start.sh
      - {{type: bind, source: ./html, target: /html, x-pyswarm: {{upload: true}}}}
"""
BOUND = f"""
services:
  web:{TAIL}
    volumes: [./html:/html]
"""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


def project(folder: Path) -> str:
    """The files of a project; returns its Compose file."""
    (folder / "html" / "deep").mkdir(parents=True)
    (folder / "html" / "deep" / "index").write_text("first")
    (folder / "site.conf").write_text("listen 80")
    (folder / "start.sh").write_text("#!/bin/sh\necho started\n")
    (folder / "start.sh").chmod(0o755)
    file = folder / "stack.yaml"
    file.write_text(FILE)
    return str(file)


def read(fleet: Fleet, *words: str) -> str:
    (task,) = fleet.running("site_web")
    return str(fleet.contained(task["ID"], *words).out)


def test_files_of_this_machine_reach_every_node(fleet: Fleet, tmp_path: Path) -> None:
    file = project(tmp_path)
    done = fleet.run("stack", "deploy", "-c", file, "site")
    assert done.code == 0, done.err
    assert "site.conf becomes config site_site.conf-" in done.err
    assert "are in volume site_html-" in done.err
    assert read(fleet, "cat", "/etc/site.conf") == "listen 80"
    assert read(fleet, "/start.sh") == "started\n"
    assert read(fleet, "cat", "/html/deep/index") == "first"
    assert "up\n" in read(fleet, "cat", "/etc/hosts")
    assert read(fleet, "nslookup", "web.example.org").count("Address") >= 2
    (task,) = fleet.running("site_web")

    (tmp_path / "html" / "deep" / "index").write_text("second")
    assert fleet.run("stack", "deploy", "-c", file, "site").code == 0
    assert [one["ID"] for one in fleet.running("site_web")] == [task["ID"]]
    assert read(fleet, "cat", "/html/deep/index") == "second"

    (tmp_path / "site.conf").write_text("listen 81")
    assert fleet.run("stack", "deploy", "-c", file, "site").code == 0
    assert read(fleet, "cat", "/etc/site.conf") == "listen 81"
    fleet("stack", "rm", "site")


def on(fleet: Fleet, host: str, *words: str) -> Done:
    """Run `pyswarm WORDS` on a host, in the project's directory."""
    script = f'cd {FOLDER} && exec {PYSWARM} --host unix://{fleet.run_dir}/pyswarm.sock "$@"'
    return fleet.on(host, "sh", "-c", script, "sh", *words)


def test_a_service_runs_where_its_directory_is(fleet: Fleet, tmp_path: Path) -> None:
    script = f"mkdir -p {FOLDER}/html && echo host2 >{FOLDER}/html/name"
    assert fleet.on("host2", "sh", "-c", script).code == 0
    written = fleet.on("host2", "sh", "-c", 'printf %s "$1" >"$2"', "sh", BOUND, f"{FOLDER}/s.yaml")
    assert written.code == 0
    done = on(fleet, "host2", "stack", "deploy", "-c", "s.yaml", "site")
    assert done.code == 0, done.err
    assert "./html: tasks run on this host, host2" in done.err
    assert read(fleet, "cat", "/html/name") == "host2\n"
    fleet("stack", "rm", "site")

    file = tmp_path / "stack.yaml"
    (tmp_path / "html").mkdir()
    file.write_text(BOUND)
    done = fleet.run("stack", "deploy", "-c", str(file), "site")
    assert done.code != 0
    assert "services.web.volumes[0]: ./html is on this host, and this host is no node" in done.err
    assert fleet("stack", "ls", "-q") == ""
