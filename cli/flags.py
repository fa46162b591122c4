"""Flags that several commands share, with Docker's names and help."""

import re
from typing import Any

import click

from pyswarm_core.errors import quoted


def number(text: object) -> int:
    """An integer in ASCII digits. Click's own type also accepts `1_0`, ` 3` and other scripts."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(text)):
        raise click.BadParameter(f"value {quoted(str(text))} is not valid: expected an integer")
    return int(str(text))


class Choice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """One of several words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click, with an error in the form of `errors.invalid`."""
        try:
            return str(super().convert(value, param, ctx))
        except click.BadParameter:
            expected = f"expected one of {', '.join(self.choices)}"
            self.fail(f"value {quoted(value)} is not valid: {expected}", param, ctx)


AVAILABILITY = Choice(["active", "pause", "drain"])

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
