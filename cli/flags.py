"""Flags that many verbs share, with Docker's names."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

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
detach = click.option("-d", "--detach", is_flag=True, help="Do not wait until it has converged")
quiet_progress = click.option("-q", "--quiet", is_flag=True, help="Show no progress")


def pairs(field: str, texts: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` flags as a map; a lone KEY has the empty value, as in Docker."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise click.UsageError(f"{field} {text!r} is not valid: want KEY=VALUE")
        found[key] = value
    return found
