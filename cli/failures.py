"""Doing the same to several things: one failure keeps none of the others from being done."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from pyswarm_core.errors import PyswarmError


class Failures:
    """Collects errors and raises them as one, of the first one's class, at its end."""

    def __init__(self) -> None:
        self._errors: list[PyswarmError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Remember the PyswarmError of this block and go on behind it."""
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
        if error is None and self._errors:
            raise type(self._errors[0])("; ".join(map(str, self._errors)))
