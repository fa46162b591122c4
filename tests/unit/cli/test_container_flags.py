"""Every flag that Docker's commands about containers have: honoured, or refused by name."""

import json

import click
import pytest

from cli.container.spec.refused import REFUSED
from cli.main import root
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

DOCKER = json.loads((ROOT / "tests/fixtures/docker_container_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command]]
LISTS = ("list", "map", "mount", "network", "ulimit")
ONE_BY_ONE = ("--filter",)
"""Flags that Docker may repeat although its type is no list."""
LATER = {
    "docker start": ("--checkpoint", "--checkpoint-dir"),
}
"""Unknown to the command; `No such option` names them."""


def verb(command: str) -> click.Command:
    found: click.Command = root
    for word in command.split()[1:]:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None, command
        found = inner
    return found


def options_of(command: str) -> dict[str, click.Option]:
    options = [each for each in verb(command).params if isinstance(each, click.Option)]
    return {name: each for each in options for name in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused_with_the_alternative(
    command: str, row: dict[str, str]
) -> None:
    flag = row["flag"]
    if flag in LATER.get(command, ()):
        assert flag not in options_of(command), "no longer in LATER"
        return
    option = options_of(command)[flag]
    assert (row.get("short") or "") in ("", *option.opts)
    if option.hidden:
        assert any(flag in names.split() and why for names, why in REFUSED.items())
        return
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (row.get("type") in LISTS or flag in ONE_BY_ONE)


@pytest.mark.parametrize("names", REFUSED)
@pytest.mark.parametrize("command", ["run", "create"])
def test_a_refused_flag_ends_the_command_before_anything_is_created(
    names: str, command: str, script: Script, pyswarm: Pyswarm
) -> None:
    for name in names.split():
        option = options_of(f"docker {command}")[name]
        if not option.hidden:
            continue
        ran = pyswarm(command, f"-i{name[1:]}" if len(name) == 2 else name, "x", "web")
        assert (ran.code, ran.out) == (125 if command == "run" else 2, "")
        shown = names.split()[-1]
        assert ran.err.startswith(f"Error: {shown} is not supported: {REFUSED[names]}")
    assert script.asked == []
