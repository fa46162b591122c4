"""`compose config` and `stack config`: what they print, and where faults go."""

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Pyswarm

WEB = """\
name: shop
services:
  web:
    image: web:${TAG:-1}
    ports: ["8080:80"]
    depends_on: [db]
    command: echo $$HOME
  db: {build: ./db, volumes: [data:/data]}
  debug: {image: tool, profiles: [debug]}
volumes: {data: }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "compose.yaml").write_text(WEB)
    monkeypatch.chdir(folder)
    return folder


def test_the_model_is_printed_as_yaml_or_json(pyswarm: Pyswarm, folder: Path) -> None:
    shown = pyswarm("compose", "config")
    assert (shown.code, shown.err) == (0, "")
    found = yaml.safe_load(shown.out)
    assert list(found) == ["name", "services", "networks", "volumes"]
    assert found["services"]["web"]["command"] == ["echo", "$$HOME"]
    assert found["services"]["db"]["build"]["context"] == str(folder / "db")
    assert json.loads(pyswarm("compose", "config", "--format", "json").out) == found


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        (["--services"], ["db", "web"]),
        (["--profile", "debug", "--services"], ["db", "debug", "web"]),
        (["--services", "debug"], ["db", "debug", "web"]),
        (["--images"], ["shop-db", "web:1"]),
        (["--volumes"], ["data"]),
        (["--networks"], ["default"]),
        (["--profiles"], ["debug"]),
        (["-q"], []),
        (["-p", "other", "--images"], ["other-db", "web:1"]),
    ],
)
def test_names_are_printed_one_per_line(
    pyswarm: Pyswarm, folder: Path, flags: list[str], lines: list[str]
) -> None:
    shown = pyswarm("compose", "config", *flags)
    assert (shown.code, shown.out.splitlines()) == (0, lines)


def test_flags_of_the_project_stand_before_or_after_the_verb(
    pyswarm: Pyswarm, folder: Path
) -> None:
    (folder / "more.yaml").write_text("services: {web: {image: other}}\n")
    (folder / "tags.env").write_text("TAG=9\n")
    before = ["compose", "-f", "compose.yaml", "--env-file", "tags.env"]
    assert pyswarm(*before, "config", "--images").out == "shop-db\nweb:9\n"
    assert pyswarm(*before, "config", "-f", "more.yaml", "--images").out == "other\nshop-db\n"


def test_a_named_service_is_printed_with_what_it_depends_on(pyswarm: Pyswarm, folder: Path) -> None:
    assert list(yaml.safe_load(pyswarm("compose", "config", "db").out)["services"]) == ["db"]
    both = yaml.safe_load(pyswarm("compose", "config", "web").out)["services"]
    assert list(both) == ["db", "web"]
    shown = pyswarm("compose", "config", "wbe")
    assert shown.code == 2
    assert "there is no such service; did you mean web?" in shown.err


def test_a_hash_changes_with_the_meaning_alone(pyswarm: Pyswarm, folder: Path) -> None:
    first = pyswarm("compose", "config", "--hash", "*").out
    assert [line.split()[0] for line in first.splitlines()] == ["db", "web"]
    same = WEB.replace('ports: ["8080:80"]', "ports:\n      - {target: 80, published: 8080}")
    (folder / "compose.yaml").write_text(same.replace("[data:/data]", "['data:/data/']"))
    assert pyswarm("compose", "config", "--hash", "*").out == first
    (folder / "compose.yaml").write_text(WEB.replace("8080", "8081"))
    changed = pyswarm("compose", "config", "--hash", "db,web").out.splitlines()
    assert changed[0] == first.splitlines()[0]
    assert changed[1] != first.splitlines()[1]
    assert pyswarm("compose", "config", "--hash", "we").code == 2


def test_the_model_is_written_to_a_file(pyswarm: Pyswarm, folder: Path) -> None:
    printed = pyswarm("compose", "config").out
    assert pyswarm("compose", "config", "-o", "out.yaml").out == ""
    assert (folder / "out.yaml").read_text() == printed
    assert pyswarm("compose", "-f", "out.yaml", "config").out == printed
    assert pyswarm("compose", "config", "-o", "no/out.yaml").code == 1


def test_variables_are_kept_or_printed(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / ".env").write_text("ONLY_HERE=1\n")
    assert "ONLY_HERE=1" in pyswarm("compose", "config", "--environment").out.splitlines()
    shown = pyswarm("compose", "config", "--no-interpolate").out
    assert yaml.safe_load(shown)["services"]["web"]["image"] == "web:${TAG:-1}"


def test_each_fault_is_a_line_of_standard_error(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "compose.yaml").write_text("services:\n  web: {imagee: x, tty: 5}\n")
    shown = pyswarm("compose", "config")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.splitlines() == [
        "Error: compose.yaml:2:9: services.web.imagee: no such key: did you mean image?",
        "Error: compose.yaml:2:25: services.web.tty: 5 is not valid: expected true or false",
    ]


def test_control_characters_of_a_file_reach_no_terminal(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "compose.yaml").write_text('services: {web: {image: x, tty: "\\e[31m"}}\n')
    shown = pyswarm("compose", "config")
    assert shown.code == 2
    assert "\x1b" not in shown.err


def test_warnings_and_notices_do_not_fail_but_for_strict(pyswarm: Pyswarm, folder: Path) -> None:
    text = "services:\n  web: {image: 'x$T', environment: {A: 010}, mac_address: a}\n"
    (folder / "compose.yaml").write_text(text)
    shown = pyswarm("compose", "config", "-q")
    assert (shown.code, shown.out) == (0, "")
    first, second = shown.err.splitlines()
    assert first.startswith("Warning: compose.yaml:2:16: services.web.image: the variable T")
    assert second.startswith("Notice: compose.yaml:2:40: services.web.environment.A: 010 is 8")
    strict = pyswarm("compose", "config", "-q", "--strict")
    assert strict.code == 2
    assert "Error: compose.yaml:2:40" in strict.err
    assert "services.web.mac_address: notice: tasks have addresses of their own" in strict.err


def test_stack_config_prints_what_docker_accepts(pyswarm: Pyswarm, folder: Path) -> None:
    shown = pyswarm("stack", "config", "-c", "compose.yaml")
    assert yaml.safe_load(shown.out)["services"]["web"]["ports"][0]["published"] == "8080"
    docker = yaml.safe_load(pyswarm("stack", "config", "-c", "compose.yaml", "--docker").out)
    assert docker["version"] == "3.13"
    assert docker["services"]["web"]["ports"][0]["published"] == 8080
    assert docker["services"]["web"]["depends_on"] == ["db"]
    assert docker["volumes"] == {"data": {}}
    assert "name" not in docker


def test_stack_config_reads_env_unless_told_otherwise(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / ".env").write_text("TAG=7\n")
    assert "web:7" in pyswarm("stack", "config", "-c", "compose.yaml").out
    assert "web:1" in pyswarm("stack", "config", "-c", "compose.yaml", "--no-env-file").out
    kept = pyswarm("stack", "config", "-c", "compose.yaml", "--skip-interpolation").out
    assert "web:${TAG:-1}" in kept
    assert pyswarm("stack", "config").code == 2


def test_a_file_that_is_not_there_is_named(pyswarm: Pyswarm, folder: Path) -> None:
    shown = pyswarm("compose", "-f", "none.yaml", "config")
    assert (shown.code, shown.err) == (2, "Error: none.yaml: no such file or directory\n")
    (folder / "compose.yaml").unlink()
    shown = pyswarm("compose", "config")
    assert shown.code == 2
    assert "expected one of compose.yaml" in shown.err
