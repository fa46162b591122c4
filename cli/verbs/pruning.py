"""What every `prune` has: its flags, its question, and which objects its filters choose. SHELL."""

from collections.abc import Callable, Iterable, Mapping

import click

from cli.times import instant
from pyswarm_core.clock import Instant
from pyswarm_core.errors import invalid

Choice = Callable[[Instant, Mapping[str, str]], bool]
"""Whether an object with this time of creation and these labels is removed."""

force = click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
filters = click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Provide filter values: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]",
)  # fmt: skip


def confirmed(warning: str) -> bool:
    """Ask on the terminal, in Docker's words."""
    return click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?")


def chosen(texts: Iterable[str]) -> Choice:
    """Whether an object passes all filters. Raises InvalidArgument."""
    choices = [_choice(text) for text in texts]
    return lambda created_at, labels: all(choice(created_at, labels) for choice in choices)


def _choice(text: str) -> Choice:
    key, _, value = text.partition("=")
    if key == "until" and value:
        until = instant("--filter", value)
        return lambda created_at, _: created_at < until
    if key in ("label", "label!") and value:
        name, _, wanted = value.partition("=")

        def has(labels: Mapping[str, str]) -> bool:
            return name in labels and ("=" not in value or labels[name] == wanted)

        return lambda _, labels: has(labels) == (key == "label")
    raise invalid("--filter", text, "expected until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]")
