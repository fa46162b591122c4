"""Every flag of docker compose: honoured, or refused by name with the alternative."""

import json

import click
import pytest

from cli.compose import VERBS, refused
from cli.main import root
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

DOCKER = json.loads((ROOT / "tests/fixtures/docker_compose_flags.json").read_text())["commands"]
VERB_OF = {command: command.removeprefix("docker compose").strip() for command in DOCKER}
ROWS = [
    (VERB_OF[command], row)
    for command in DOCKER
    for row in DOCKER[command]
    if VERB_OF[command] not in refused.COMMANDS
]
LISTS = ("list", "map", "stringArray", "scale", "filter")
ONE_BY_ONE = ("ps --filter",)
"""Flags that may be repeated although their type is no list."""


def command_of(verb: str) -> click.Command:
    group = root.get_command(click.Context(root), "compose")
    assert isinstance(group, click.Group)
    if not verb:
        return group
    found = group.get_command(click.Context(group), verb)
    assert found is not None, verb
    return found


def options_of(verb: str) -> dict[str, click.Option]:
    options = [each for each in command_of(verb).params if isinstance(each, click.Option)]
    return {name: each for each in options for name in (*each.opts, *each.secondary_opts)}


def refused_by(verb: str) -> dict[str, str]:
    all_ = {} if verb in refused.PLANS else refused.OF_ALL
    rows = {**refused.REFUSED.get(verb, {}), **all_}
    return {name: why for names, why in rows.items() for name in names.split()}


@pytest.mark.parametrize(("verb", "row"), ROWS, ids=[f"{v} {row['flag']}" for v, row in ROWS])
def test_a_flag_of_docker_has_its_form_or_is_refused_with_the_alternative(
    verb: str, row: dict[str, str]
) -> None:
    flag = row["flag"]
    option = options_of(verb)[flag]
    assert (row.get("short") or "") in ("", *option.opts)
    if flag in refused_by(verb):
        assert option.hidden
        assert refused_by(verb)[flag]
        return
    assert option.is_flag == ("type" not in row)
    is_list = row.get("type") in LISTS or f"{verb} {flag}" in ONE_BY_ONE
    assert option.multiple == is_list


def test_every_verb_of_docker_exists_or_is_refused_with_the_alternative(pyswarm: Pyswarm) -> None:
    verbs = {verb for verb in VERB_OF.values() if verb}
    assert verbs - set(refused.COMMANDS) == set(VERBS)
    for verb, why in refused.COMMANDS.items():
        ran = pyswarm("compose", verb, "--any", "words")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"Error: compose {verb} is not supported: {why}")


@pytest.mark.parametrize("verb", refused.REFUSED)
def test_a_refused_flag_ends_the_command_before_anything_is_asked(
    verb: str, script: Script, pyswarm: Pyswarm
) -> None:
    all_ = {} if verb in refused.PLANS else refused.OF_ALL
    for names, why in {**refused.REFUSED[verb], **all_}.items():
        for name in names.split():
            value = () if options_of(verb)[name].is_flag else ("x",)
            ran = pyswarm(*("compose", verb, name, *value) if verb else ("compose", name, "ps"))
            assert (ran.code, ran.out) == (2, "")
            shown = names.split()[-1]
            assert ran.err.startswith(f"Error: {shown} is not supported: {why}")
    assert script.asked == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "config"])
def test_flags_of_the_project_may_follow_the_verb(verb: str) -> None:
    options = options_of(verb)
    for flag in ("--file", "--project-name", "--project-directory", "--profile", "--env-file"):
        assert options[flag].hidden
    assert options["-p"] is options["--project-name"] or verb == "run"


def test_a_letter_that_the_verb_uses_is_the_verbs() -> None:
    assert options_of("logs")["-f"].name == "follow"
    assert options_of("rm")["-f"].name == "force"
    assert options_of("run")["-p"].name == "publish"
    assert options_of("up")["-f"].name == "files"
