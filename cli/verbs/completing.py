"""Completion of the names of objects that exist. SHELL: asks the controller.

An argument's metavar names the kinds of objects that it takes: `SERVICE|TASK`. Without an answer
within COMPLETION_TIMEOUT_S nothing is completed, and nothing is printed.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from cli.client import Client

COMPLETION_TIMEOUT_S = 1.5
NAMES_MAX = 500
"""Names that are offered at once."""
_WORD = re.compile(r"[A-Z]+")


def complete_names(command: click.Command) -> None:
    """Have the parameters whose metavars name kinds of objects complete their names."""
    for param in command.params:
        if param.type is click.STRING and (nouns := _nouns_of(param)):
            param.type = NameType(nouns)


def _nouns_of(param: click.Parameter) -> tuple[str, ...]:
    words = _WORD.findall((param.metavar or param.name or "").upper())
    return tuple(word for word in words if word in _NAMES)


class NameType(click.types.StringParamType):
    """A name of an object of these kinds; any text is accepted."""

    def __init__(self, nouns: tuple[str, ...]) -> None:
        self.nouns = nouns

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin with the text."""
        found: list[str] = []

        def ask() -> None:
            with ctx.scope(cleanup=False):
                found.extend(_names(self.nouns, incomplete))

        # A thread, as connecting may take as long as its own timeout.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(COMPLETION_TIMEOUT_S)
        return [CompletionItem(name) for name in found[:NAMES_MAX]]


def _names(nouns: Iterable[str], prefix: str) -> list[str]:
    from cli import session
    from pyswarm_core.errors import PyswarmError

    try:
        with session.connect() as client:
            names = {name for noun in nouns for name in _NAMES[noun](client)}
    except (PyswarmError, OSError):
        return []
    return sorted(name for name in names if name.startswith(prefix))


def _services(client: "Client") -> Iterable[str]:
    return (one.service.spec.name for one in client.services())


def _tasks(client: "Client") -> Iterable[str]:
    return (task.name for task in client.tasks())


def _objects(kind: str) -> Callable[["Client"], Iterable[str]]:
    def listed(client: "Client") -> Iterable[str]:
        from pyswarm_core.kinds import KINDS

        return (KINDS[kind].title(item) for item in client.objects(KINDS[kind]))

    return listed


def _images(client: "Client") -> Iterable[str]:
    return (name for node in client.images() for image in node.images for name in image.names)


def _contexts(_: "Client") -> Iterable[str]:
    from cli.context import store

    return store.names()


_NAMES: Mapping[str, Callable[["Client"], Iterable[str]]] = {
    "SERVICE": _services,
    "CONTAINER": _tasks,
    "TASK": _tasks,
    "NODE": _objects("node"),
    "NETWORK": _objects("network"),
    "USER": _objects("user"),
    "IMAGE": _images,
    "CONTEXT": _contexts,
}
