"""Doing the same to several things: one failure keeps none of the others from being done."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from pyswarm_core.errors import PyswarmError


class Failures:
    """Collects errors and raises them as one, of the first one's class, at its end; an error that
    ends the block itself comes first.
    """

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
        if not self._errors or (error is not None and not isinstance(error, PyswarmError)):
            return
        # What ended the block weighs more, but hides none of the others.
        errors = [error, *self._errors] if error is not None else self._errors
        raise type(errors[0])("; ".join(map(str, errors))) from None
