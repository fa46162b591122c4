"""Which stopped containers `container prune` removes."""

from collections.abc import Callable, Iterable

from cli.times import instant
from pyswarm_core.docker.containers.views import ContainerView
from pyswarm_core.errors import invalid

Choice = Callable[[ContainerView], bool]


def chosen(filters: Iterable[str]) -> Choice:
    """Whether a container passes all filters. Raises InvalidArgument."""
    choices = [_choice(text) for text in filters]
    return lambda one: all(choice(one) for choice in choices)


def _choice(text: str) -> Choice:
    key, _, value = text.partition("=")
    if key == "until" and value:
        until = instant("--filter", value)
        return lambda one: one.created_at < until
    if key in ("label", "label!") and value:
        name, _, wanted = value.partition("=")

        def has(one: ContainerView) -> bool:
            return name in one.labels and ("=" not in value or one.labels[name] == wanted)

        return has if key == "label" else lambda one: not has(one)
    raise invalid("--filter", text, "expected until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]")
