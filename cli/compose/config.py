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
@click.option(
    "--no-consistency", is_flag=True, help="Do not check that what services refer to exists"
)
@click.option("--no-env-resolution", is_flag=True, help="Do not resolve env files of services")
@click.option("--no-interpolate", is_flag=True, help="Do not interpolate variables")
@click.option("--no-normalize", is_flag=True, help="Do not normalize the model")
@click.option("--no-path-resolution", is_flag=True, help="Do not resolve file paths")
@click.option("-o", "--output", default="", metavar="FILE", help="Save to file (default stdout)")
@click.option("--profiles", "show_profiles", is_flag=True, help="Print the profile names")
@click.option("-q", "--quiet", is_flag=True, help="Only validate, print nothing")
@click.option("--services", "show_services", is_flag=True, help="Print the service names")
@click.option(
    "--variables", is_flag=True, help="Print the variables of the files and their default values"
)
@click.option("--volumes", is_flag=True, help="Print the volume names, one per line")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.pass_context
def config(
    context: click.Context,
    /,
    *,
    services: tuple[str, ...],
    strict: bool,
    output: str,
    quiet: bool,
    form: str,
    **chosen: Any,
) -> None:
    project = {
        name: chosen.pop(name)
        for name in ("files", "env_files", "profiles", "project_name", "project_directory")
    }
    keeps_variables = chosen["no_interpolate"] or chosen["variables"]
    wanted = flags.request(
        context,
        services=services,
        interpolates=not keeps_variables,
        is_checked=not chosen["no_consistency"],
        normalizes=not chosen["no_normalize"],
        resolves_env_files=not chosen["no_env_resolution"],
        resolves_paths=not chosen["no_path_resolution"],
        **project,
    )
    loaded = flags.load(wanted, is_strict=strict)
    if quiet:
        return
    some = printing.of_services(loaded, services)
    if chosen["variables"]:
        is_given = context.get_parameter_source("form") is click.core.ParameterSource.COMMANDLINE
        text = printing.variables(loaded, form if is_given else "table")
    elif (lines := _lines(loaded, some, chosen)) is not None:
        text = "".join(f"{line}\n" for line in lines)
    else:
        text = printing.text_of(some.model, form, keeps_variables=keeps_variables)
    printing.print_or_write(text, output)


def _lines(loaded: "Loaded", some: "Loaded", chosen: dict[str, Any]) -> list[str] | None:
    """The lines of the list that is asked for; None if it is the model. Only that of images is
    of the services that are named.
    """
    model = loaded.model
    if chosen["show_services"]:
        return sorted(model["services"])
    if chosen["show_profiles"]:
        return list(loaded.profiles)
    for section in ("volumes", "networks"):
        if chosen[section]:
            return sorted(model.get(section, {}))
    if chosen["images"]:
        return printing.images(some)
    if chosen["environment"]:
        return [f"{name}={value}" for name, value in sorted(loaded.variables.items())]
    return printing.hashes(loaded, chosen["hash_"]) if chosen["hash_"] else None
