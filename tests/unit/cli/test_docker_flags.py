"""Every command and flag of Docker's that no test of its subject covers: it is there, or it is
refused with what to use instead.
"""

import json

import click
import pytest

from cli.main import root
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm

DOCKER = json.loads((ROOT / "tests/fixtures/docker_other_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command]]


def command_of(words: list[str]) -> click.Command | None:
    found: click.Command | None = root
    context = click.Context(root)
    for word in words:
        assert isinstance(found, click.Group)
        context = click.Context(found, parent=context)
        found = found.get_command(context, word)
        if found is None:
            return None
    return found


@pytest.mark.parametrize("command", DOCKER)
def test_a_command_of_docker_exists_or_is_refused_with_the_reason(
    command: str, pyswarm: Pyswarm
) -> None:
    words = command.split()[1:]
    if command_of(words) is None:
        ran = pyswarm(*words)
        assert (ran.code, ran.out) == (2, "")
        assert " is not supported: " in ran.err


PLUGINS = (
    "scout quickview|sbom nginx|scan nginx|init|debug web|model run m|mcp ls|ai|desktop start"
    "|offload|extension ls|sandbox ls|pass ls|system dial-stdio"
)
OF_BUILDX = "bake create dap du history imagetools inspect install ls rm stop uninstall use version"


@pytest.mark.parametrize(
    "line",
    [
        *PLUGINS.split("|"),
        *(f"{group} {verb} x" for group in ("buildx", "builder") for verb in OF_BUILDX.split()),
    ],
)
def test_a_command_of_dockers_plugins_is_refused_by_its_name(line: str, pyswarm: Pyswarm) -> None:
    words = line.split()
    ran = pyswarm(*words)
    assert (ran.code, ran.out) == (2, "")
    name = " ".join(words[: 2 if words[0] in ("buildx", "builder", "system") else 1])
    assert ran.err.startswith(f"Error: pyswarm {name} is not supported: ")
    assert pyswarm("help", *words).err == ran.err


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("buildx build", "build"),
        ("builder build", "build"),
        ("image build", "build"),
        ("buildx prune", "builder prune"),
        ("container ps", "container ls"),
        ("container list", "ps"),
        ("stack up", "stack deploy"),
        ("stack down", "stack rm"),
        ("image remove", "rmi"),
    ],
)
def test_a_second_name_of_a_command_is_the_same_command(second: str, first: str) -> None:
    assert command_of(second.split()) is command_of(first.split()) is not None


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused_with_the_reason(
    command: str, row: dict[str, str], pyswarm: Pyswarm
) -> None:
    words = command.split()[1:]
    found = command_of(words)
    if found is None:
        return  # refused as a whole
    options = {
        name: option
        for option in found.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    for name in filter(None, (row["flag"], row.get("short"))):
        option = options.get(name)
        if option is None or option.hidden:
            value = ("x",) if "type" in row else ()
            ran = pyswarm(*words, name, *value)
            assert (ran.code in (2, 125), ran.out) == (True, ""), ran
            assert f"Error: {name} is not supported" in ran.err
            assert "is not supported\n" not in ran.err.replace(" yet", ""), "without a reason"
        else:
            assert option.is_flag == ("type" not in row)
