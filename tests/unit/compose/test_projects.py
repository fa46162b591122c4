"""Which files, variables, profiles and names a project has."""

from collections.abc import Mapping
from typing import Any

import pytest

from pyswarm_core.errors import InvalidArgument
from tests.fixtures.composing import loaded, model

ONE = "services: {a: {image: x, hostname: '${H:-none}'}}\n"


def hostname(files: Mapping[str, str | bytes], /, **given: Any) -> str:
    return str(model(files, **given)["services"]["a"]["hostname"])


@pytest.mark.parametrize(
    "name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"]
)
def test_a_file_with_a_default_name_is_found_here_or_above(name: str) -> None:
    found = loaded({name: ONE}, directory="/project")
    assert found.model["name"] == "project"
    found = loaded({f"../{name}": ONE}, directory="/up/here/below")
    assert (found.model["name"], found.directory) == ("here", "/up/here")


def test_of_several_default_names_the_first_is_read_with_a_warning() -> None:
    found = loaded({"compose.yml": ONE, "compose.yaml": ONE.replace("x,", "y,")})
    assert found.model["services"]["a"]["image"] == "y"
    [warning] = found.warnings
    assert "only compose.yaml is read" in warning.text


def test_an_override_beside_it_is_read() -> None:
    files = {"compose.yaml": ONE, "compose.override.yml": "services: {a: {hostname: o}}\n"}
    assert hostname(files) == "o"
    assert hostname(files, files=("compose.yaml",)) == "none"


def test_without_a_file_the_names_are_told() -> None:
    with pytest.raises(InvalidArgument, match=r"expected one of compose\.yaml, compose\.yml"):
        loaded({}, directory="/nowhere/at/all")
    with pytest.raises(InvalidArgument, match="--compose-file"):
        loaded({}, is_stack=True)


def test_variables_come_from_the_shell_then_from_env_files() -> None:
    files = {"compose.yaml": ONE, ".env": "H=dot\n", "a.env": "H=a\nG=1\n", "b.env": "H=b$G\n"}
    assert hostname(files) == "dot"
    assert hostname(files, environ={"H": "shell"}) == "shell"
    assert hostname(files, env_files=("a.env", "b.env")) == "b1"
    assert hostname(files, environ={"COMPOSE_ENV_FILES": "b.env,a.env"}) == "a"
    assert hostname(files, environ={"COMPOSE_DISABLE_ENV_FILE": "1"}) == "none"
    assert hostname(files, reads_env_file=False) == "none"
    with pytest.raises(InvalidArgument, match=r"no\.env: no such file or directory"):
        loaded(files, env_files=("no.env",))


def test_env_files_of_the_project_directory_and_of_the_working_directory() -> None:
    files = {"sub/x.yaml": ONE, ".env": "COMPOSE_FILE=sub/x.yaml\nH=here\n", "sub/.env": "H=sub\n"}
    assert hostname(files) == "here"
    assert hostname(files, files=("sub/x.yaml",)) == "sub"
    assert hostname(files, files=("sub/x.yaml",), project_directory=".") == "here"


def test_with_a_project_directory_its_env_file_counts_alone() -> None:
    files = {".env": "H=here\n", "sub/.env": "H=sub\n", "compose.yaml": ONE, "sub/c.yaml": ONE}
    assert hostname(files) == "here"
    assert hostname(files, project_directory="sub") == "sub"
    assert hostname(files, project_directory="/project/none") == "none"
    assert hostname(files, files=("compose.yaml",), project_directory="sub") == "sub"
    more = {**files, "sub/.env": "COMPOSE_FILE=sub/c.yaml\nH=more\n"}
    assert loaded(more, project_directory="sub").files == (
        "/project/sub/.env",
        "/project/sub/c.yaml",
    )


def test_files_are_separated_as_the_variable_says() -> None:
    files = {"a.yaml": ONE, "b.yaml": "services: {a: {hostname: b}}\n"}
    assert hostname(files, environ={"COMPOSE_FILE": "a.yaml:b.yaml"}) == "b"
    shell = {"COMPOSE_FILE": "a.yaml;b.yaml", "COMPOSE_PATH_SEPARATOR": ";"}
    assert hostname(files, environ=shell) == "b"


def test_the_name_is_the_flag_s_then_the_variable_s_then_the_file_s() -> None:
    text = "name: ${N:-In File}\n" + ONE
    assert model(text)["name"] == "infile"
    assert model(text, environ={"N": "x"})["name"] == "x"
    assert model(text, environ={"COMPOSE_PROJECT_NAME": "var"})["name"] == "var"
    assert (
        model(text, project_name="flag", environ={"COMPOSE_PROJECT_NAME": "var"})["name"] == "flag"
    )
    assert model({"compose.yaml": ONE, ".env": "COMPOSE_PROJECT_NAME=dot\n"})["name"] == "dot"
    two = {"a.yaml": "name: one\n" + ONE, "b.yaml": "name: two\n"}
    assert model(two, files=tuple(two))["name"] == "two"


@pytest.mark.parametrize(
    ("directory", "name"), [("/My Proj.X", "myprojx"), ("/_-a_b-", "a_b-"), ("/9Z", "9z")]
)
def test_a_directory_s_name_becomes_a_project_s(directory: str, name: str) -> None:
    assert model(ONE, directory=directory)["name"] == name


def test_a_name_that_is_none_is_refused() -> None:
    for given in ({"project_name": "Up"}, {"environ": {"COMPOSE_PROJECT_NAME": "-a"}}):
        with pytest.raises(InvalidArgument, match="expected lower-case letters, digits, _ and -"):
            loaded(ONE, **given)
    with pytest.raises(InvalidArgument, match="give --project-name"):
        loaded(ONE, directory="/...")


def test_the_name_is_known_to_values() -> None:
    assert (
        hostname({"compose.yaml": "name: n\n" + ONE.replace("H:-none", "COMPOSE_PROJECT_NAME")})
        == "n"
    )


def test_profiles_enable_services() -> None:
    text = "services: {a: {image: x}, b: {image: x, profiles: [p]}, c: {image: x, profiles: [q]}}\n"
    for given, names in (
        ({}, ["a"]),
        ({"profiles": ("p",)}, ["a", "b"]),
        ({"profiles": ("*",)}, ["a", "b", "c"]),
        ({"environ": {"COMPOSE_PROFILES": "q, p"}}, ["a", "b", "c"]),
        ({"services": ("c",)}, ["a", "c"]),
    ):
        assert sorted(model(text, **given)["services"]) == names
    assert loaded(text).profiles == ("p", "q")
    with pytest.raises(InvalidArgument, match=r"SERVICE.*there is no such service"):
        loaded(text, services=("d",))


def test_standard_input_is_a_file_of_the_working_directory() -> None:
    found = loaded({"-": ONE.replace("hostname", "working_dir: /w, hostname")}, files=("-",))
    assert found.directory == "/project"


def test_the_version_is_obsolete() -> None:
    found = loaded('version: "3.8"\n' + ONE)
    assert [str(one) for one in found.warnings] == [
        "compose.yaml:1:10: version: the key is obsolete and has no meaning: remove it"
    ]
    assert "version" not in found.model


def test_what_was_read_is_known() -> None:
    files = {"compose.yaml": "include: [i.yaml]\n" + ONE, "i.yaml": "services: {}\n", ".env": ""}
    assert loaded(files).files == ("/project/.env", "/project/compose.yaml", "/project/i.yaml")


def test_what_is_included_counts_before_what_is_extended() -> None:
    files = {
        "compose.yaml": (
            "include: [in/i.yaml]\n"
            "services:\n  a: {extends: base, labels: {own: '1'}}\n"
            "  base: {image: base, labels: {own: b, in: b, base: b}, hostname: base,"
            " dns: [1.1.1.1, 2.2.2.2]}\n"
        ),
        "in/i.yaml": (
            "services: {a: {image: in, labels: {own: i, in: i}, tty: true, dns: [2.2.2.2]}}\n"
        ),
    }
    found = model(files)["services"]["a"]
    assert (found["image"], found["hostname"], found["tty"]) == ("in", "base", True)
    assert found["labels"] == {"own": "1", "in": "i", "base": "b"}
    assert found["dns"] == ["1.1.1.1", "2.2.2.2"]


def test_a_build_without_a_context_has_the_directory_of_its_project() -> None:
    build = "{dockerfile_inline: FROM x}"
    files = {
        "compose.yaml": (
            "include: [in/i.yaml, {path: in/j.yaml, project_directory: jj}]\n"
            f"services: {{a: {{build: {build}}}, b: {{build: {{target: t}}}}}}\n"
        ),
        "in/i.yaml": f"services: {{b: {{build: {{args: [A=1]}}}}, c: {{build: {build}}}}}\n",
        "in/j.yaml": f"services: {{d: {{build: {build}}}}}\n",
    }
    services = model(files)["services"]
    contexts = {name: one["build"]["context"] for name, one in services.items()}
    assert contexts == {
        "a": "/project", "b": "/project/in", "c": "/project/in", "d": "/project/jj",
    }  # fmt: skip
