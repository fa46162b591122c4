"""`pyswarm compose config`."""

from typing import TYPE_CHECKING, Any

import click

from cli.compose import flags, printing, refused
from cli.lazy import Verb

if TYPE_CHECKING:
    from compose.model import Loaded


@click.command(
    cls=Verb,
    params=refused.options("config"),
    help="Check Compose files and print the model they define, in canonical format\n\n"
    "Example: pyswarm compose config -f compose.yaml -f compose.prod.yaml --services",
)
@flags.project_flags
@flags.strict
@printing.FORMAT
@click.option("--environment", is_flag=True, help="Print the variables used for interpolation")
@click.option(
    "--hash", "hash_", default="", metavar="SERVICES", help="Print the service config hash"
)
@click.option("--images", is_flag=True, help="Print the image names, one per line")
@click.option("--networks", is_flag=True, help="Print the network names, one per line")
@click.option("--no-interpolate", is_flag=True, help="Do not interpolate variables")
@click.option("-o", "--output", default="", metavar="FILE", help="Save to file (default stdout)")
@click.option("--profiles", "show_profiles", is_flag=True, help="Print the profile names")
@click.option("-q", "--quiet", is_flag=True, help="Only validate, print nothing")
@click.option("--services", "show_services", is_flag=True, help="Print the service names")
@click.option("--volumes", is_flag=True, help="Print the volume names, one per line")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.pass_context
def config(
    context: click.Context,
    /,
    *,
    services: tuple[str, ...],
    strict: bool,
    no_interpolate: bool,
    output: str,
    quiet: bool,
    form: str,
    **chosen: Any,
) -> None:
    project = {
        name: chosen.pop(name)
        for name in ("files", "env_files", "profiles", "project_name", "project_directory")
    }
    wanted = flags.request(context, services=services, interpolates=not no_interpolate, **project)
    loaded = flags.load(wanted, is_strict=strict)
    if quiet:
        return
    lines = _lines(loaded, chosen)
    if lines is None:
        text = printing.text_of(_only(loaded, services), form, keeps_variables=no_interpolate)
    else:
        text = "".join(f"{line}\n" for line in lines)
    printing.print_or_write(text, output)


def _lines(loaded: "Loaded", chosen: dict[str, Any]) -> list[str] | None:
    """The lines of the list that is asked for; None if it is the model."""
    model = loaded.model
    if chosen["show_services"]:
        return sorted(model["services"])
    if chosen["show_profiles"]:
        return list(loaded.profiles)
    for section in ("volumes", "networks"):
        if chosen[section]:
            return sorted(model.get(section, {}))
    if chosen["images"]:
        return printing.images(loaded)
    if chosen["environment"]:
        return [f"{name}={value}" for name, value in sorted(loaded.variables.items())]
    return printing.hashes(loaded, chosen["hash_"]) if chosen["hash_"] else None


def _only(loaded: "Loaded", services: tuple[str, ...]) -> dict[str, Any]:
    """The model, of the services named and of those that they depend on."""
    if not services:
        return loaded.model
    everything, kept = loaded.model["services"], dict[str, Any]()
    waiting = list(services)
    while waiting:
        name = waiting.pop()
        if name in everything and name not in kept:
            kept[name] = everything[name]
            waiting += everything[name].get("depends_on", {})
    return {**loaded.model, "services": kept}
