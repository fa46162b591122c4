"""Evaluation of a parsed template on plain values: nodes, data -> text. PURE.

Values are dicts, lists, strings, numbers, bools and None; they print as Go prints them. A field
that an object lacks is an error that names its fields; only labels (string maps) yield no value.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pyswarm_core.errors import InvalidArgument, invalid, quoted
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
Scope = dict[str, Any]


def render(nodes: Sequence[Node], data: Any) -> str:
    """The template's text for `data`. Raises InvalidArgument."""
    return "".join(_nodes(nodes, data, {"$": data}))


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
    for node in nodes:
        match node:
            case Text(text=text):
                yield text
            case Show(value=pipe, variables=variables):
                value = _pipe(pipe, dot, scope)
                if variables:
                    scope[variables[-1]] = value
                else:
                    yield go_text(value)
            case Branch():
                yield from _block(node, dot, scope)


def _block(block: Branch, dot: Any, scope: Scope) -> Iterator[str]:
    value = _pipe(block.value, dot, scope)
    if not truth(value):
        yield from _nodes(block.otherwise, dot, dict(scope))
        return
    if block.kind == "range":
        for key, item in _items(value):
            inner = dict(scope)
            inner.update(zip(reversed(block.variables), (item, key), strict=False))
            yield from _nodes(block.body, item, inner)
        return
    inner = {**scope, **dict.fromkeys(block.variables, value)}
    yield from _nodes(block.body, value if block.kind == "with" else dot, inner)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from ((key, value[key]) for key in sorted(value))
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    else:
        raise InvalidArgument(f"--format: cannot range over {quoted(go_text(value))}")


def truth(value: Any) -> bool:
    """Go's truth: not empty, not zero, not nil."""
    return value is not MISSING and bool(value)


def _pipe(pipe: Pipe, dot: Any, scope: Scope) -> Any:
    value: Any = None
    for position, stage in enumerate(pipe.stages):
        if position == 0:
            value = _value(stage, dot, scope)
        elif isinstance(stage, Call):
            value = _call(stage, dot, scope, (value,))
        else:
            raise InvalidArgument("--format: a value follows |: expected a function")
    return _fields(value, pipe.fields, "(...)")


def _value(expression: Expression, dot: Any, scope: Scope) -> Any:
    match expression:
        case Literal(value=value):
            return value
        case Path(variable=None, fields=fields):
            return _fields(dot, fields)
        case Path(variable=variable, fields=fields):
            if variable not in scope:
                raise InvalidArgument(f"--format: variable {variable} is not set")
            return _fields(scope[variable], fields, variable)
        case Call():
            return _call(expression, dot, scope, ())
        case Pipe():
            return _pipe(expression, dot, scope)


def _fields(value: Any, fields: Sequence[str], base: str = "") -> Any:
    for position, field in enumerate(fields):
        if isinstance(value, dict) and field in value:
            found = value[field]
            free = field in _FREE_FORM and isinstance(found, dict)
            value = _Free(found) if free else found
        elif isinstance(value, _Free) or value is MISSING:
            value = MISSING
        elif value is None and (position or base):
            raise InvalidArgument(f"--format: {_unset(base, fields, position)}")
        else:
            raise InvalidArgument(f"--format: field .{field} does not exist: {_known(value)}")
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
    if call.name not in FUNCTIONS:
        known = ", ".join(sorted(name for name in FUNCTIONS if name[0] != "."))
        raise invalid("--format", call.name, f"expected one of {known}", "function")
    arguments = [*(_value(argument, dot, scope) for argument in call.arguments), *last]
    function = FUNCTIONS[call.name]
    _require_number(call.name, function, len(arguments))
    try:
        return function(*arguments)
    except ValueError as error:
        raise InvalidArgument(f"--format: cannot call {call.name}: {error}") from None
    except (TypeError, AttributeError, LookupError, OverflowError):
        got = quoted(" ".join(map(go_text, arguments)))
        reason = f"wrong type of argument: got {got}"
        raise InvalidArgument(f"--format: cannot call {call.name}: {reason}") from None


def _require_number(name: str, function: Any, got: int) -> None:
    """Require as many arguments as the function has parameters; the text is Go's."""
    least = function.__code__.co_argcount
    is_variadic = bool(function.__code__.co_flags & _VARIADIC)
    if got < least or (got > least and not is_variadic):
        want = f"at least {least}" if is_variadic else str(least)
        raise InvalidArgument(f"--format: wrong number of args for {name}: want {want} got {got}")


def _json(value: Any) -> str:
    plain = None if value is MISSING else value
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
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


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
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
