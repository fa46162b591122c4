"""Evaluation of a parsed template on plain values: nodes, data -> text. PURE.

Values are dicts, lists, strings, numbers, bools and None; they print as Go prints them. A field
that an object lacks is an error that names its fields; only labels (string maps) yield no value.
A `StringMap` is Go's map[string]string with the option missingkey=error.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyswarm_core.errors import quoted
from pyswarm_core.gotemplate.fault import Fault, of_format, unfit
from pyswarm_core.gotemplate.parse import (
    Branch,
    Call,
    Expression,
    Literal,
    Node,
    Path,
    Pipe,
    Show,
    Text,
)

PADDING_MAX = 1000
_VARIADIC = 4
"""CO_VARARGS of inspect, whose import would slow every command."""
_VERB = re.compile(r"%([-+0 ]*[0-9]{0,3}(?:\.[0-9]{0,3})?)([vsqtdfx%])")
_NEXT_LABEL = re.compile(",(?=[^,=]+=)")
_FREE_FORM = ("Labels", "Sysctls")
"""Maps whose keys users choose: a missing key is no error."""


class _Free(dict[str, Any]):
    """A map with keys that users chose."""


class _Missing:
    """The value of a missing key of such a map."""


MISSING = _Missing()
Function = Callable[..., Any]


class StringMap(dict[str, str]):
    """A map whose missing keys are errors as fields, and empty with `index`."""


READ_FACTOR = 10
"""How many times the characters of the text functions may be given, and return, in all."""
_CONSTANT = frozenset({"and", "or", "not", "len", "index"})
"""Functions whose cost is independent of the size of what they are given."""


class Bounds:
    """What one evaluation may cost, for templates of untrusted origin: nodes and expressions that
    are evaluated, characters of the text and of each value, and those that functions handle.
    Mutable: it counts.
    """

    def __init__(self, steps: int, text: int) -> None:
        self._steps = steps
        self._text = text
        self._shown = 0
        self._unread = text * READ_FACTOR

    def step(self) -> None:
        """Count a node or an expression. Raises Fault."""
        self._steps -= 1
        if self._steps < 0:
            raise Fault("it takes too many steps: expected fewer actions, or fewer nested ranges")

    def read(self, values: Iterable[Any]) -> None:
        """Count what a function, or a range, is about to read. Raises Fault."""
        for value in values:
            self._unread -= _size(value)
            if self._unread < 0:
                most = self._text * READ_FACTOR
                raise Fault(f"it reads too much: expected at most {most} characters in all values")

    def show(self, text: str) -> None:
        """Count text of the result. Raises Fault."""
        self._shown += len(text)
        if self._shown > self._text:
            raise Fault(f"its text is too long: expected at most {self._text} characters")

    def hold(self, value: object) -> None:
        """Check the size of a value. Raises Fault."""
        if isinstance(value, str | list) and len(value) > self._text:
            raise Fault(f"a value is too long: expected at most {self._text} characters")
        self.read((value,))


def _size(value: Any) -> int:
    """The characters of a value, at least 1."""
    if isinstance(value, str):
        return len(value) + 1
    if isinstance(value, dict):
        return 1 + sum(len(key) + _size(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return 1 + sum(map(_size, value))
    return 1


class Scope:
    """The variables of a block, the functions of the template, and what it may cost."""

    def __init__(
        self,
        variables: Mapping[str, Any],
        functions: Mapping[str, Function],
        bounds: Bounds | None,
    ) -> None:
        self.variables = dict(variables)
        self.functions = functions
        self.bounds = bounds

    def inner(self, more: Mapping[str, Any]) -> "Scope":
        """The scope of a block in it."""
        return Scope({**self.variables, **more}, self.functions, self.bounds)


def render(nodes: Sequence[Node], data: Any) -> str:
    """The text of a `--format` for `data`. Raises InvalidArgument."""
    try:
        return text_of(nodes, data, FUNCTIONS)
    except Fault as fault:
        raise of_format(fault) from None


def text_of(
    nodes: Sequence[Node],
    data: Any,
    functions: Mapping[str, Function],
    bounds: Bounds | None = None,
) -> str:
    """The template's text for `data`. Functions raise ValueError with the reason. Raises Fault."""
    return "".join(_nodes(nodes, data, Scope({"$": data}, functions, bounds)))


def go_text(value: Any) -> str:
    """A value as Go's fmt prints it: `map[a:1 b:2]`, `[x y]`, `true`, `<no value>`."""
    if value is None or value is MISSING:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inside = " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value))
        return f"map[{inside}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(go_text(item) for item in value)}]"
    return str(value)


def _nodes(nodes: Sequence[Node], dot: Any, scope: Scope) -> Iterator[str]:
    bounds = scope.bounds
    for node in nodes:
        if bounds is not None:
            bounds.step()
        match node:
            case Text(text=text):
                yield _shown(text, bounds)
            case Show(value=pipe, variables=variables):
                value = _pipe(pipe, dot, scope)
                if variables:
                    scope.variables[variables[-1]] = value
                else:
                    yield _shown(go_text(value), bounds)
            case Branch():
                yield from _block(node, dot, scope)


def _shown(text: str, bounds: Bounds | None) -> str:
    if bounds is not None:
        bounds.show(text)
    return text


def _block(block: Branch, dot: Any, scope: Scope) -> Iterator[str]:
    value = _pipe(block.value, dot, scope)
    if not truth(value):
        yield from _nodes(block.otherwise, dot, scope.inner({}))
        return
    if block.kind == "range":
        if scope.bounds is not None:
            scope.bounds.read((value,))
        for key, item in _items(value):
            named = dict(zip(reversed(block.variables), (item, key), strict=False))
            yield from _nodes(block.body, item, scope.inner(named))
        return
    inner = scope.inner(dict.fromkeys(block.variables, value))
    yield from _nodes(block.body, value if block.kind == "with" else dot, inner)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from ((key, value[key]) for key in sorted(value))
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    else:
        plain = "cannot range over a value that is no list and no map"
        raise Fault(f"cannot range over {quoted(go_text(value))}", plain)


def truth(value: Any) -> bool:
    """Go's truth: not empty, not zero, not nil."""
    return value is not MISSING and bool(value)


def _pipe(pipe: Pipe, dot: Any, scope: Scope) -> Any:
    value: Any = None
    for position, stage in enumerate(pipe.stages):
        if position == 0:
            value = _value(stage, dot, scope)
        elif isinstance(stage, Call):
            if scope.bounds is not None:
                scope.bounds.step()
            value = _call(stage, dot, scope, (value,))
        else:
            raise Fault("a value follows |: expected a function")
    return _fields(value, pipe.fields, "(...)")


def _value(expression: Expression, dot: Any, scope: Scope) -> Any:
    if scope.bounds is not None:
        scope.bounds.step()
    match expression:
        case Literal(value=value):
            return value
        case Path(variable=None, fields=fields):
            return _fields(dot, fields)
        case Path(variable=variable, fields=fields):
            if variable not in scope.variables:
                raise Fault(f"variable {variable} is not set")
            return _fields(scope.variables[variable], fields, variable)
        case Call():
            return _call(expression, dot, scope, ())
        case Pipe():
            return _pipe(expression, dot, scope)


def _fields(value: Any, fields: Sequence[str], base: str = "") -> Any:
    for position, field in enumerate(fields):
        if isinstance(value, dict) and field in value:
            found = value[field]
            value = _Free(found) if field in _FREE_FORM and type(found) is dict else found
        elif isinstance(value, _Free) or value is MISSING:
            value = MISSING
        elif value is None and (position or base):
            raise Fault(_unset(base, fields, position))
        else:
            known = _known(value)
            plain = known if isinstance(value, dict) else "the value has no fields"
            raise Fault(*(f"field .{field} does not exist: {one}" for one in (known, plain)))
    return value


def _unset(base: str, fields: Sequence[str], position: int) -> str:
    """`.A is not set: use {{with .A}}{{.B}}{{end}}`."""
    path = base + "".join(f".{field}" for field in fields[:position])
    rest = "".join(f".{field}" for field in fields[position:])
    return f"{path} is not set: use {{{{with {path}}}}}{{{{{rest}}}}}{{{{end}}}}"


def _known(value: Any) -> str:
    if isinstance(value, dict) and value:
        return f"expected one of {', '.join('.' + key for key in sorted(value))}"
    return f"{quoted(go_text(value))} has no fields"


def _call(call: Call, dot: Any, scope: Scope, last: tuple[Any, ...]) -> Any:
    function = scope.functions.get(call.name)
    if function is None:
        known = ", ".join(sorted(name for name in scope.functions if name[0] != "."))
        raise unfit("function", call.name, f"expected one of {known}")
    arguments = [*(_value(argument, dot, scope) for argument in call.arguments), *last]
    _require_number(call.name, function, len(arguments))
    if scope.bounds is not None and call.name not in _CONSTANT:
        scope.bounds.read(arguments)
    try:
        value = function(*arguments)
    except ValueError as error:
        is_written = not last and all(isinstance(one, Literal) for one in call.arguments)
        plain = str(error) if is_written else "its argument is not valid"
        raise Fault(*(f"cannot call {call.name}: {one}" for one in (error, plain))) from None
    except (TypeError, AttributeError, LookupError, OverflowError):
        got = quoted(" ".join(map(go_text, arguments)))
        plain = f"cannot call {call.name}: wrong type of argument"
        raise Fault(f"{plain}: got {got}", plain) from None
    if scope.bounds is not None and call.name not in _CONSTANT:
        scope.bounds.hold(value)
    return value


def _require_number(name: str, function: Any, got: int) -> None:
    """Require as many arguments as the function has parameters; the text is Go's."""
    least = function.__code__.co_argcount
    is_variadic = bool(function.__code__.co_flags & _VARIADIC)
    if got < least or (got > least and not is_variadic):
        want = f"at least {least}" if is_variadic else str(least)
        raise Fault(f"wrong number of args for {name}: want {want} got {got}")


def _json(value: Any) -> str:
    plain = None if value is MISSING else value
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "" if isinstance(value, StringMap) else MISSING)
        elif isinstance(value, list | tuple | str) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise ValueError(f"index {key} is out of range")
            value = value[key]
        else:
            raise ValueError(f"{quoted(go_text(value))} cannot be indexed by {quoted(key)}")
    return value


def _printf(form: str, *values: Any) -> str:
    waiting = iter(values)

    def shown(match: re.Match[str]) -> str:
        verb = match[2]
        if verb == "%":
            return "%"
        value = next(waiting, MISSING)
        if verb in "dfx":
            return f"%{match[1]}{verb}" % value
        text = go_text(value)
        return f"%{match[1]}s" % (_json(text) if verb == "q" else text)

    rest = _VERB.sub("", form)
    if "%" in rest:
        raise ValueError(f"expected %v %s %q %t %d %f or %x, got %{rest.partition('%')[2][:10]}")
    return _VERB.sub(shown, form)


def _pad(text: str, before: int, after: int) -> str:
    if not 0 <= max(before, after) <= PADDING_MAX:
        raise ValueError(f"expected 0 to {PADDING_MAX} spaces")
    return " " * before + text + " " * after if text else text


def _and(value: Any, *others: Any) -> Any:
    values = (value, *others)
    return next((value for value in values if not truth(value)), values[-1])


def _or(value: Any, *others: Any) -> Any:
    values = (value, *others)
    return next((value for value in values if truth(value)), values[-1])


def _join(values: Any, separator: str) -> str:
    return separator.join(go_text(value) for value in values)


def _label(labels: Any, key: str) -> str:
    """The value of a label in a map, or in the text `a=1,b=2` of a row. In the row of headings,
    whose text has no `=`, the last part of the key, as in Docker.
    """
    if isinstance(labels, dict):
        return str(labels.get(key, ""))
    if labels and "=" not in labels:
        return re.sub("[-_]", " ", key.rpartition(".")[2])
    found: dict[str, str] = dict(part.partition("=")[::2] for part in _NEXT_LABEL.split(labels))
    return found.get(key, "")


FUNCTIONS: Mapping[str, Function] = {
    "json": _json,
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "join": _join,
    "split": lambda text, separator: text.split(separator),
    "truncate": lambda text, length: text[:length],
    "pad": _pad,
    "len": lambda value: len(value),
    "index": _index,
    "print": lambda *values: "".join(go_text(value) for value in values),
    "println": lambda *values: " ".join(go_text(value) for value in values) + "\n",
    "printf": _printf,
    "eq": lambda one, *others: any(one == other for other in others),
    "ne": lambda one, other: one != other,
    "lt": lambda one, other: one < other,
    "le": lambda one, other: one <= other,
    "gt": lambda one, other: one > other,
    "ge": lambda one, other: one >= other,
    "and": _and,
    "or": _or,
    "not": lambda value: not truth(value),
    ".Label": _label,
}
