"""Every flag of Docker's commands that build: honoured, or refused by name with the reason."""

import json

import pytest

from cli.image.building.refused import REFUSED
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_container_flags import options_of

DOCKER = json.loads((ROOT / "tests/fixtures/docker_build_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command]]
LISTS = ("--add-host", "--build-arg", "--cache-from", "--cache-to", "--label", "--secret", "--tag")
ACCEPTED = ("--rm", "--force-rm", "--load", "--push")
"""What they ask for is always so."""


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused(
    command: str, row: dict[str, str], script: Script, pyswarm: Pyswarm
) -> None:
    flag = row["flag"]
    option = options_of(command)[flag]
    assert (row.get("short") or "") in ("", *option.opts)
    if option.hidden and flag not in ACCEPTED:
        value = ("x",) if "type" in row else ()
        ran = pyswarm(*command.split()[1:], flag, *value, ".")
        assert (ran.code, ran.out, script.asked) == (2, "", [])
        assert f"Error: {flag} is not supported: " in ran.err
        return
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (flag in LISTS)


def test_a_refused_flag_says_why(pyswarm: Pyswarm) -> None:
    for names, why in REFUSED.items():
        name = names.split()[0]
        value = [] if names in ("--compress", "--disable-content-trust", "--squash") else ["x"]
        ran = pyswarm("build", name, *value, ".")
        assert (ran.code, ran.err.splitlines()[0]) == (
            2,
            f"Error: {names.split()[-1]} is not supported: {why}",
        )
