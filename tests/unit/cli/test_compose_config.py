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


def test_of_a_named_service_only_what_it_uses_is_printed(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services:\n  a: {image: x, networks: [n], depends_on: [b]}\n"
        "  b: {image: y, configs: [c]}\n"
        "  d: {image: z, networks: [m], volumes: ['vol:/v'], profiles: [p]}\n"
        "  e: {image: q, profiles: [p]}\n"
        "networks: {n: , m: }\nvolumes: {vol: }\nconfigs: {c: {content: x}}\n"
    )
    found = yaml.safe_load(pyswarm("compose", "config", "a").out)
    assert {key: list(found[key]) for key in found if key != "name"} == {
        "services": ["a", "b"], "networks": ["default", "n"], "configs": ["c"],
    }  # fmt: skip
    found = yaml.safe_load(pyswarm("compose", "config", "d").out)
    assert {key: list(found[key]) for key in found if key != "name"} == {
        "services": ["d"], "networks": ["m"], "volumes": ["vol"],
    }  # fmt: skip
    assert pyswarm("compose", "config", "--images", "d").out == "z\n"


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


def test_without_variables_all_services_and_their_env_files_are_kept(
    pyswarm: Pyswarm, folder: Path
) -> None:
    (folder / "web.env").write_text("A=a$$b\n")
    (folder / "more.yaml").write_text("services: {web: {env_file: web.env}}\nvolumes: {more: }\n")
    files = ("compose", "-f", "compose.yaml", "-f", "more.yaml")
    found = yaml.safe_load(pyswarm(*files, "config", "--no-interpolate").out)
    assert found["services"]["web"]["env_file"] == [
        {"path": str(folder / "web.env"), "required": True}
    ]
    assert list(found["services"]) == ["db", "debug", "web"]
    assert list(found["volumes"]) == ["data", "more"]


def test_names_that_are_variables_are_not_looked_for(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services: {a: {image: x, networks: ['${N}'], volumes: ['${V:-v}:/v'], depends_on: [b]}}\n"
    )
    shown = pyswarm("compose", "config", "--no-interpolate")
    assert (shown.code, shown.err) == (0, "")


def test_steps_of_reading_are_left_out(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "base").mkdir()
    (folder / "base" / "b.yaml").write_text(
        "services: {b: {image: x, env_file: e.env, volumes: ['./x:/x', '../up:/up']}}\n"
    )
    (folder / "base" / "e.env").write_text("A=1\n")
    (folder / "compose.yaml").write_text(
        "services:\n  a: {extends: {file: base/b.yaml, service: b}, build: ./ctx,"
        " volumes: ['./y:/y', ~/h:/h, /abs:/abs], depends_on: [none]}\n"
    )
    assert pyswarm("compose", "config").code == 2
    config = ("compose", "config", "--no-consistency")
    found = yaml.safe_load(pyswarm(*config, "--no-path-resolution").out)["services"]["a"]
    sources = [mount["source"] for mount in found["volumes"]]
    assert sources == ["base/x", "up", "./y", "~/h", "/abs"]
    assert found["build"] == {"context": "./ctx", "dockerfile": "Dockerfile"}
    assert found["environment"] == {"A": "1"}
    both = ("--no-env-resolution", "--no-path-resolution")
    found = yaml.safe_load(pyswarm(*config, *both).out)["services"]["a"]
    assert found["env_file"] == [{"path": "base/e.env", "required": True}]
    assert "environment" not in found
    found = yaml.safe_load(pyswarm(*config, "--no-normalize").out)
    assert list(found) == ["name", "services"]
    assert found["services"]["a"]["build"] == {"context": str(folder / "ctx")}
    assert "networks" not in found["services"]["a"]


def test_variables_are_listed_with_their_defaults(pyswarm: Pyswarm, folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services: {a: {image: 'x:${TAG:-1}', user: '${U?need}', labels: ['${TAG:+set}']}}\n"
        "x-a: ${X:-${Y-z}}$$N\n"
    )
    shown = pyswarm("compose", "config", "--variables")
    assert shown.out.splitlines() == [
        "NAME      REQUIRED   DEFAULT VALUE   ALTERNATE VALUE",
        "TAG       false      1               set",
        "U         true",
        "X         false      ${Y-z}",
        "Y         false      z",
    ]
    found = json.loads(pyswarm("compose", "config", "--variables", "--format", "json").out)
    assert found["TAG"] == {
        "Name": "TAG", "DefaultValue": "1", "PresenceValue": "set", "Required": False,
    }  # fmt: skip
    listed = yaml.safe_load(pyswarm("compose", "config", "--variables", "--format", "yaml").out)
    assert listed["U"]["required"] is True
    assert list(listed) == ["TAG", "U", "X", "Y"]


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
