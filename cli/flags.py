"""Flags that several commands share, with Docker's names and help."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pyswarm_core.errors import InvalidArgument, quoted

if TYPE_CHECKING:
    _ParamType = click.ParamType[int]
else:
    _ParamType = click.ParamType  # older versions of click have no generic types

F = TypeVar("F", bound=Callable[..., Any])


class Number(_ParamType):
    """An integer of `low` to `high`. Click's own type also accepts `1_0` and other scripts."""

    name = "number"

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """As click, with an error in the form of `errors.invalid`."""
        from pyswarm_core.docker.units import parse_integer

        expected = f"{self.low} to {self.high}"
        number: int | None = None
        try:
            number = parse_integer(str(value))
        except InvalidArgument:
            expected = f"an integer of {expected}"
        if number is None or not self.low <= number <= self.high:
            self.fail(f"value {quoted(str(value))} is not valid: expected {expected}", param, ctx)
        return number


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
ROLE = Choice(["viewer", "operator", "admin"])

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
autolock = click.option(
    "--autolock/--no-autolock",
    default=None,
    help="Encrypt the key files of controllers with an unlock key (true|false)",
)
allowed_bind_paths = click.option(
    "--allowed-bind-paths",
    metavar="PATH,...",
    help="Paths of the nodes that operators may bind mount, with what is beneath them; empty: none",
)
cert_expiry = click.option(
    "--cert-expiry",
    metavar="DURATION",
    help="Validity period for node certificates, as in 90d or 12h (default 2160h0m0s)",
)


def detach_from(what: str) -> Callable[[F], F]:
    """--detach of a verb that waits for this."""
    text = f"Exit immediately instead of waiting for {what}"
    return click.option("-d", "--detach", is_flag=True, help=text)


detach = detach_from("the service to converge")
detach_from_end = detach_from("the tasks to end")
detach_from_stack = detach_from("the stack services to converge")
quiet_progress = click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
