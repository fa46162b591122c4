"""`pyswarm stack config`."""

import click

from cli.compose import flags, printing
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Print the final config file, after merges and interpolations\n\n"
    "Example: pyswarm stack config -c stack.yaml",
)
@flags.stack_files
@click.option("--skip-interpolation", is_flag=True, help="Skip interpolation and print what is set")
@click.option(
    "--docker", is_flag=True, help="Print the version 3 format, which docker stack deploy accepts"
)
@flags.no_env_file
@flags.strict
@printing.FORMAT
@click.pass_context
def config(
    context: click.Context,
    /,
    *,
    files: tuple[str, ...],
    skip_interpolation: bool,
    docker: bool,
    no_env_file: bool,
    strict: bool,
    form: str,
) -> None:
    wanted = flags.request(
        context,
        files=files,
        is_stack=True,
        interpolates=not skip_interpolation,
        reads_env_file=not no_env_file,
    )
    loaded = flags.load(wanted, is_strict=strict)
    model = loaded.model
    if docker:
        from compose.docker3 import version_3

        model = version_3(model, loaded.versions)
    text = printing.text_of(model, form, keeps_variables=skip_interpolation)
    printing.print_or_write(text, "")
