"""Flags of the daemons. SHELL: click.

A value that click does not accept is answered like any other invalid field, with the flag, the
value and what is expected, wherever it comes from: command line, environment or configuration file.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from pyswarm_core.docker.units import parse_cpus, parse_duration, parse_size
from pyswarm_core.errors import InvalidArgument, invalid

if TYPE_CHECKING:
    _ParamType = click.ParamType[object]
else:
    _ParamType = click.ParamType  # older versions of click have no generic types


class Parsed(_ParamType):
    """A value that `parse` reads; it raises InvalidArgument. `expected` describes valid values."""

    def __init__(self, name: str, parse: Callable[[str], object], expected: str) -> None:
        self.name = name
        self.expected = expected
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """As click's."""
        try:
            return self._parse(str(value))
        except InvalidArgument as error:
            self.fail(str(error), param, ctx)


CPUS = Parsed("cpus", parse_cpus, "a number of CPUs of at most nine decimals, such as 0.5 or 2")
DURATION = Parsed("duration", parse_duration, "numbers with units, such as 10s, 500ms or 1h30m")
SIZE = Parsed("size", parse_size, "a number with a unit b, k, m, g or t, such as 64M or 1.5g")


class Flag(click.Option):
    """An option whose error says what is expected."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """As click's."""
        try:
            return super().type_cast_value(ctx, value)
        except click.BadParameter as error:
            raise invalid(self.opts[0], value, f"expected {_expected(self.type)}") from error


flag = partial(click.option, cls=Flag)


def _expected(kind: "click.ParamType[Any]") -> str:
    match kind:
        case Parsed():
            return kind.expected
        case click.Choice():
            *others, last = kind.choices
            return f"{', '.join(others)} or {last}"
        case click.IntRange():
            return f"an integer from {kind.min} to {kind.max}"
        case click.types.BoolParamType():
            return "on or off"
        case click.Path():
            what = "file" if kind.file_okay else "directory"
            return f"an existing {what}" if kind.exists else f"a {what}"
        case _:
            return f"a value of type {kind.name}"
