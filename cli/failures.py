"""One change to several objects: the failure of one does not stop the others."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import click

from pyswarm_core.errors import PyswarmError, Unavailable


class Failures:
    """Collects errors and raises them as one at the end of the block, with the class of the first.
    An error that ended the block comes first.
    """

    def __init__(self) -> None:
        self._errors: list[PyswarmError] = []
        self._alike: dict[str, tuple[int, list[str]]] = {}
        """By the reason of failures of nodes: the number of their error, and the nodes."""

    def of_node(self, name: str, reason: str) -> None:
        """Keep the failure of a node. Nodes that fail alike are one error, which names them."""
        number, names = self._alike.setdefault(reason, (len(self._errors), []))
        if not names:
            self._errors.append(Unavailable(reason))
        if name not in names:
            names.append(name)
        self._errors[number] = Unavailable(f"{', '.join(names)}: {reason}")

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Catch and keep a PyswarmError of this block."""
        try:
            yield
        except PyswarmError as error:
            self._errors.append(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._errors or (error is not None and not isinstance(error, PyswarmError)):
            return
        # The error that ended the block decides the exit code; the others are printed too.
        errors = [error, *self._errors] if error is not None else self._errors
        raise type(errors[0])("; ".join(map(str, errors))) from None


def for_each(refs: Iterable[str], change: Callable[[str], object]) -> None:
    """Make the change to each object, and print the name of each that was changed. Raises the
    failures as one error.
    """
    with Failures() as failures:
        for ref in refs:
            with failures.collected():
                change(ref)
                click.echo(ref)
