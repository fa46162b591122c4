"""Completion of the names of objects that exist, and of files. SHELL: asks the controller.

An argument's metavar names the kinds of objects that it takes: `SERVICE|TASK`; the shell itself
completes a FILE or DIRECTORY of this machine. Without an answer within COMPLETION_TIMEOUT_S no name
is completed, and nothing is printed.
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
_FILES = {
    **dict.fromkeys(("FILE", "SRC_PATH", "DEST_PATH"), "file"),
    **dict.fromkeys(("DIRECTORY", "PATH|-"), "dir"),
}
"""What the shell completes, by a part of a metavar: `CONTAINER:SRC_PATH|SRC_PATH|-`."""
_ANY = ("CONTAINER", "SERVICE", "NETWORK", "VOLUME", "NODE")
"""What `inspect NAME|ID` completes: the kinds that users have most of."""
_MADE = ("SECRET", "CONFIG", "VOLUME", "NETWORK")
"""The kinds whose `create` takes a new name."""


def complete_names(command: click.Command) -> None:
    """Have the parameters whose metavars name kinds of objects or files complete these."""
    for param in command.params:
        if param.type is not click.STRING:
            continue
        nouns, files = _nouns_of(param), _files_of(param)
        if command.name == "create" and isinstance(param, click.Argument):
            nouns = tuple(noun for noun in nouns if noun not in _MADE)
        if nouns or files:
            param.type = NameType(nouns, files)


def _nouns_of(param: click.Parameter) -> tuple[str, ...]:
    metavar = (param.metavar or param.name or "").upper()
    if metavar.startswith("NAME|ID"):
        return _ANY
    return tuple(word for word in _WORD.findall(metavar) if word in _NAMES)


def _files_of(param: click.Parameter) -> str:
    """`file`, `dir`, or nothing for values that name none of this machine."""
    metavar = (param.metavar or "").upper().strip("[].")
    return next((_FILES[one] for one in (metavar, *metavar.split("|")) if one in _FILES), "")


class NameType(click.types.StringParamType):
    """A name of an object of these kinds, or a file; any text is accepted."""

    def __init__(self, nouns: tuple[str, ...], files: str = "") -> None:
        self.nouns = nouns
        self.files = files

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin with the text, else what the shell makes of it."""
        names = self._names(ctx, incomplete) if self.nouns else []
        if self.files and not names:
            return [CompletionItem(incomplete, type=self.files)]
        return [CompletionItem(name) for name in names]

    def _names(self, ctx: click.Context, incomplete: str) -> list[str]:
        found: list[str] = []

        def ask() -> None:
            with ctx.scope(cleanup=False):
                found.extend(_names(self.nouns, incomplete))

        # A thread, as connecting may take as long as its own timeout.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(COMPLETION_TIMEOUT_S)
        return found[:NAMES_MAX]


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
    from cli.image import calls

    nodes = calls.images(client)
    return (name for node in nodes for image in node.images for name in image.names)


def _contexts(_: "Client") -> Iterable[str]:
    from cli.context import store

    return store.names()


_NAMES: Mapping[str, Callable[["Client"], Iterable[str]]] = {
    "SERVICE": _services,
    "CONTAINER": _tasks,
    "TASK": _tasks,
    "NODE": _objects("node"),
    "NETWORK": _objects("network"),
    "VOLUME": _objects("volume"),
    "SECRET": _objects("secret"),
    "CONFIG": _objects("config"),
    "STACK": _objects("stack"),
    "USER": _objects("user"),
    "IMAGE": _images,
    "CONTEXT": _contexts,
}
