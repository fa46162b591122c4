"""Flags that many verbs share, with Docker's names."""

import re

import click


def number(text: object) -> int:
    """A whole number in ASCII digits; click's own also takes `1_0`, ` 3` and other scripts'."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(text)):
        raise click.BadParameter(f"{str(text)[:40]!r} is not a valid integer.")
    return int(str(text))


AVAILABILITY = click.Choice(["active", "pause", "drain"])

format_ = click.option(
    "--format", "form", default="", metavar="FORMAT", help="table, json, TEMPLATE or table TEMPLATE"
)
inspect_format = click.option(
    "-f", "--format", "form", default="", metavar="FORMAT", help="json, or a Go template"
)
filter_ = click.option(
    "-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only what matches"
)
quiet_ids = click.option("-q", "--quiet", is_flag=True, help="Only ids")
no_trunc = click.option("--no-trunc", is_flag=True, help="Do not shorten anything")
no_resolve = click.option("--no-resolve", is_flag=True, help="Show ids instead of names")
pretty = click.option("--pretty", is_flag=True, help="For people, not for programs")
detach = click.option("-d", "--detach", is_flag=True, help="Do not wait until it has converged")
quiet_progress = click.option("-q", "--quiet", is_flag=True, help="Show no progress")
