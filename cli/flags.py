"""Flags that several commands share, with Docker's names and help."""

import re

import click


def number(text: object) -> int:
    """An integer in ASCII digits. Click's own type also accepts `1_0`, ` 3` and other scripts."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(text)):
        raise click.BadParameter(f"{str(text)[:40]!r} is not a valid integer.")
    return int(str(text))


AVAILABILITY = click.Choice(["active", "pause", "drain"])

format_ = click.option(
    "--format",
    "form",
    default="",
    metavar="FORMAT",
    help="Format output: table, json, TEMPLATE or table TEMPLATE",
)
inspect_format = click.option(
    "-f",
    "--format",
    "form",
    default="",
    metavar="FORMAT",
    help="Format output: json or a Go template",
)
filter_ = click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Filter output based on conditions provided",
)
quiet_ids = click.option("-q", "--quiet", is_flag=True, help="Only display IDs")
no_trunc = click.option("--no-trunc", is_flag=True, help="Do not truncate output")
no_resolve = click.option("--no-resolve", is_flag=True, help="Do not map IDs to names")
pretty = click.option(
    "--pretty", is_flag=True, help="Print the information in a human-friendly format"
)
detach = click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Exit immediately instead of waiting for the service to converge",
)
quiet_progress = click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
