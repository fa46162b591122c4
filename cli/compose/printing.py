"""A model in the formats that `compose config` and `stack config` print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import flags

if TYPE_CHECKING:
    from compose.model import Loaded

FORMAT = click.option(
    "--format", "form", type=flags.Choice(["yaml", "json"]), default="yaml",
    help="Format the output: yaml or json (default yaml)",
)  # fmt: skip


def text_of(model: dict[str, Any], form: str, *, keeps_variables: bool = False) -> str:
    """The model as a text that loads as the same model."""
    from compose.dump import as_json, as_yaml

    write = as_json if form == "json" else as_yaml
    return write(model, keeps_variables=keeps_variables)


def images(loaded: "Loaded") -> list[str]:
    """The image of each service; of one that is only built, the name that its build gives it."""
    project = loaded.model["name"]
    services = loaded.model["services"].items()
    return sorted({one.get("image") or f"{project}-{name}" for name, one in services})


def hashes(loaded: "Loaded", names: str) -> list[str]:
    """`SERVICE DIGEST` of services; `*` is all of them."""
    from compose.dump import hash_of
    from pyswarm_core.errors import invalid, similar

    services = loaded.model["services"]
    wanted = sorted(services) if names == "*" else names.split(",")
    for name in wanted:
        if name not in services:
            raise invalid("--hash", name, f"there is no such service{similar(name, services)}")
    return [f"{name} {hash_of(services[name])}" for name in wanted]


def print_or_write(text: str, output: str) -> None:
    """Print a text, or write it to a file."""
    if output:
        Path(output).write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)
