"""A model in the formats that `compose config` and `stack config` print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import flags

if TYPE_CHECKING:
    from compose.model import Loaded

_HEADINGS = ("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE")
_SECTIONS = ("services", "networks", "volumes", "secrets", "configs", "models")
FORMAT = click.option(
    "--format", "form", type=flags.Choice(["yaml", "json"]), default="yaml",
    help="Format the output: yaml or json (default yaml)",
)  # fmt: skip


def text_of(model: dict[str, Any], form: str, *, keeps_variables: bool = False) -> str:
    """The model as a text that loads as the same model."""
    from compose.dump import as_json, as_yaml

    write = as_json if form == "json" else as_yaml
    return write(model, keeps_variables=keeps_variables)


def of_services(loaded: "Loaded", names: tuple[str, ...]) -> "Loaded":
    """The model of some services, of those that they depend on, and of what they use; of all, if
    none is named.
    """
    if not names:
        return loaded
    import msgspec

    from compose.finishing import used
    from compose.tree import plain

    everything = dict(loaded.tree.items("services"))
    kept, waiting = dict[str, Any](), list(names)
    while waiting:
        name = waiting.pop()
        if name in everything and name not in kept:
            kept[name] = everything[name]
            waiting += [other for other, _ in everything[name].items("depends_on")]
    section = loaded.tree.value["services"].at(kept)
    tree = used(loaded.tree.at({**loaded.tree.value, "services": section}))
    shown = plain(tree)
    model = {
        key: {name: loaded.model[key][name] for name in value} if key in _SECTIONS else value
        for key, value in shown.items()
    }
    return msgspec.structs.replace(loaded, tree=tree, model=model)


def variables(loaded: "Loaded", form: str) -> str:
    """The variables of files that were read without their values: a table, YAML or JSON."""
    import json

    from cli.render.listing import table
    from compose.dump import as_yaml
    from compose.interpolating import uses

    found = uses(loaded.templates)
    rows = {
        name: {
            "Name": name,
            "DefaultValue": use.default,
            "PresenceValue": use.alternate,
            "Required": use.is_required,
        }
        for name, use in found.items()
    }
    if form == "json":
        return json.dumps(rows, indent=4, ensure_ascii=False) + "\n"
    if form == "yaml":
        lower = {
            name: {key.lower(): value for key, value in row.items()} for name, row in rows.items()
        }
        return as_yaml(lower, keeps_variables=True)
    cells = [
        [name, str(use.is_required).lower(), use.default, use.alternate]
        for name, use in found.items()
    ]
    return "".join(f"{line}\n" for line in table([_HEADINGS, *cells]))


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
