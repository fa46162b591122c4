"""Every flag that Docker's commands about images have: honoured, or refused by name."""

import json

import pytest

from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_container_flags import options_of

DOCKER = json.loads((ROOT / "tests/fixtures/docker_image_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command]]
LISTS = ("list", "map", "filter", "strings")
SWITCHED = ("--human", "--disable-content-trust")
"""They are on without the flag."""


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused(
    command: str, row: dict[str, str], script: Script, pyswarm: Pyswarm
) -> None:
    flag = row["flag"]
    option = options_of(command)[flag]
    if option.hidden:
        value = ("x",) if "type" in row else ()
        given = f"{flag}=false" if flag in SWITCHED else flag
        ran = pyswarm(*command.split()[1:], given, *value, "web")
        assert (ran.code, ran.out) == (2, "")
        assert f"Error: {given} is not supported: " in ran.err
        assert script.asked == []
        return
    assert (row.get("short") or "") in ("", *option.opts)
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (row.get("type") in LISTS)
    assert (option.default is True) == (flag in SWITCHED)
