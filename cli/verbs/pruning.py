"""What every `prune` has: its flags, its question, and which objects its filters choose. SHELL."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from cli.times import instant
from pyswarm_core.clock import Instant
from pyswarm_core.errors import invalid

F = TypeVar("F", bound=Callable[..., Any])
Choice = Callable[[Instant, Mapping[str, str]], bool]
"""Whether an object with this time of creation and these labels is removed."""

force = click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
_VALID = "until=TIME, label=KEY[=VALUE]"


def filters_with(*others: str) -> Callable[[F], F]:
    """The option --filter of a command that has these filters too."""
    valid = ", ".join((*others, _VALID, "label!=KEY[=VALUE]"))
    return click.option(
        "--filter", "filters", multiple=True, metavar="KEY=VALUE",
        help=f"Provide filter values: {valid}",
    )  # fmt: skip


filters = filters_with()


def confirmed(warning: str) -> bool:
    """Ask on the terminal, in Docker's words."""
    return click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?")


def chosen(texts: Iterable[str], *others: str) -> Choice:
    """Whether an object passes all filters. `others`: further ones that the command has. Raises
    InvalidArgument.
    """
    choices = [_choice(text, others) for text in texts]
    return lambda created_at, labels: all(choice(created_at, labels) for choice in choices)


def _choice(text: str, others: Iterable[str]) -> Choice:
    key, _, value = text.partition("=")
    if key == "until" and value:
        until = instant("--filter", value)
        return lambda created_at, _: created_at < until
    if key in ("label", "label!") and value:
        name, _, wanted = value.partition("=")

        def has(labels: Mapping[str, str]) -> bool:
            return name in labels and ("=" not in value or labels[name] == wanted)

        return lambda _, labels: has(labels) == (key == "label")
    valid = ", ".join((*others, _VALID))
    raise invalid("--filter", text, f"expected {valid} or label!=KEY[=VALUE]")
