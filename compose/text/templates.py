"""Variables in values: `$NAME`, `${NAME:-default}` and their operators. PURE.

A value is parsed once, whatever its depth, and what is not used of it is not evaluated.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from compose.limits import TEMPLATE_DEPTH_MAX, VALUE_LENGTH_MAX
from pyswarm_core.errors import quoted, unfit

Lookup: TypeAlias = Callable[[str], str | None]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SPECIAL = re.compile(r"[${}]")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


class Variable(NamedTuple):
    """A variable as it is written, `${NAME:-operand}`."""

    name: str
    operator: str
    operand: "tuple[_Part, ...]"
    written: str = ""
    """The operand's text."""


_Part: TypeAlias = str | Variable


def interpolated(text: str, lookup: Lookup, unset: Callable[[str], None]) -> str:
    """The text with its variables replaced. Raises InvalidArgument, with what is expected.

    `unset` gets the name of each variable that has neither a value nor a default.
    """
    if "$" not in text:
        return text
    parts, end = _Parser(text).parts(0, 0)
    assert end == len(text)
    return _Evaluation(lookup, unset).text(parts)


def occurring(text: str) -> list[Variable]:
    """The variables of a text, those of operands too."""
    found: list[Variable] = []
    waiting = list(_Parser(text).parts(0, 0)[0]) if "$" in text else []
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Variable):
            found.append(part)
            waiting = [*part.operand, *waiting]
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text

    def parts(self, at: int, depth: int) -> tuple[tuple[_Part, ...], int]:
        """The parts from `at` to the end, or below the top to the brace that closes them."""
        text, found, braces = self._text, list[_Part](), 0
        while (match := _SPECIAL.search(text, at)) is not None:
            if match.start() > at:
                found.append(text[at : match.start()])
            at = match.end()
            if match[0] == "$":
                part, at = self._dollar(at, depth)
                found.append(part)
                continue
            if depth and match[0] == "}" and not braces:
                return tuple(found), at
            braces += 1 if match[0] == "{" else -1
            found.append(match[0])
        if depth:
            raise self._fault("the closing } is missing")
        found.append(text[at:])
        return tuple(found), len(text)

    def _dollar(self, at: int, depth: int) -> tuple[_Part, int]:
        text = self._text
        if text.startswith("$", at):
            return "$", at + 1
        if not text.startswith("{", at):
            match = _NAME.match(text, at)
            return (Variable(match[0], "", ()), match.end()) if match else ("$", at)
        if (match := _NAME.match(text, at + 1)) is None:
            raise self._fault("expected a name of letters, digits and _ after ${")
        at = match.end()
        if text.startswith("}", at):
            return Variable(match[0], "", ()), at + 1
        operator = next((one for one in _OPERATORS if text.startswith(one, at)), "")
        if at == len(text):
            raise self._fault("the closing } is missing")
        if not operator:
            raise self._fault(f"expected }} or one of {' '.join(_OPERATORS)} after {match[0]}")
        if depth >= TEMPLATE_DEPTH_MAX:
            raise self._fault(f"more than {TEMPLATE_DEPTH_MAX} variables within each other")
        start = at + len(operator)
        operand, at = self.parts(start, depth + 1)
        return Variable(match[0], operator, operand, text[start : at - 1]), at

    def _fault(self, reason: str) -> Exception:
        return unfit(f"{quoted(self._text)}: {reason}; $$ is a dollar sign")


class _Evaluation:
    def __init__(self, lookup: Lookup, unset: Callable[[str], None]) -> None:
        self._lookup, self._unset = lookup, unset
        self._length = 0

    def text(self, parts: tuple[_Part, ...]) -> str:
        """The parts as one text."""
        found = []
        for part in parts:
            value = part if isinstance(part, str) else self._value(part)
            self._length += len(value)
            if self._length > (TEMPLATE_DEPTH_MAX + 1) * VALUE_LENGTH_MAX:
                raise _too_long()
            found.append(value)
        text = "".join(found)
        if len(text) > VALUE_LENGTH_MAX:
            raise _too_long()
        return text

    def _value(self, variable: Variable) -> str:
        value, operator = self._lookup(variable.name), variable.operator
        has_value = value is not None and (value != "" or not operator.startswith(":"))
        match operator[-1:]:
            case "-":
                return value or "" if has_value else self.text(variable.operand)
            case "+":
                return self.text(variable.operand) if has_value else ""
            case "?" if not has_value:
                message = self.text(variable.operand)
                told = f": {message}" if message else ""
                state = "not set" if value is None else "empty"
                raise unfit(f"the variable {variable.name} is required and {state}{told}")
        if value is None:
            self._unset(variable.name)
        return value or ""


def _too_long() -> Exception:
    return unfit(f"the value is longer than {VALUE_LENGTH_MAX:,} characters")
