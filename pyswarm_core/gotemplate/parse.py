"""Go's text/template as far as Docker uses it: text -> nodes. PURE.

Supported: `{{.A.B}}`, `{{index .A "k"}}`, pipelines, `$variables`, `if`/`else if`/`else`, `range`,
`with`, `end`, comments, trimming with `{{-` and `-}}`, string, character-free numbers and `true`,
`false`, `nil`, and of methods `{{.Label "k"}}`. Not supported: `define`, `template`, `block`,
`break`, `continue`, other methods; they are refused by name. Errors show the place.
"""

import json
import re
from collections.abc import Iterator, Sequence

import msgspec

from pyswarm_core.errors import quoted
from pyswarm_core.gotemplate.fault import Fault, of_format, unfit

TEMPLATE_LENGTH_MAX = 10_000
DEPTH_MAX = 50
NUMBER_LENGTH_MAX = 20
"""Digits and sign of an int64."""

_ACTION = re.compile(
    r'\{\{(- )?(/\*.*?\*/|(?:"(?:[^"\\\n]|\\.)*"|`[^`]*`|[^"`])*?)( -)?\}\}', re.DOTALL
)
"""Braces within strings and comments end no action."""
_UNREADABLE = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
"""An action with a string that does not end."""
_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)'
    r"|(?P<number>[+-]?[0-9]+(?:\.[0-9]+)?)(?![\w.])"
    r"|(?P<variable>\$\w*(?:\.\w+)*)|(?P<field>\.\w+(?:\.\w+)*)|(?P<dot>\.)"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<sign>\)(?:\.\w+)*|:=|=|[(|,]))"
)
_REFUSED = frozenset({"define", "template", "block", "break", "continue"})
_BLOCKS = frozenset({"if", "range", "with"})
METHODS = {"Label": "Labels"}
"""Methods of a row and the field that each reads: `{{.Label "tier"}}` is the call `.Label`."""
_UNEXPECTED = "a part of it is unexpected"
_CONSTANTS = {"true": True, "false": False, "nil": None}


class Literal(msgspec.Struct, frozen=True):
    """A string, number, bool or nil."""

    value: object


class Path(msgspec.Struct, frozen=True):
    """Fields below a base: `.` (None) or a `$variable`."""

    variable: str | None
    fields: tuple[str, ...]


class Call(msgspec.Struct, frozen=True):
    """A function with its arguments."""

    name: str
    arguments: tuple["Expression", ...]


class Pipe(msgspec.Struct, frozen=True):
    """Stages, each given the value of the one before as its last argument; then fields of that."""

    stages: tuple["Expression", ...]
    fields: tuple[str, ...] = ()


Expression = Literal | Path | Call | Pipe


class Text(msgspec.Struct, frozen=True):
    """The text between actions."""

    text: str


class Show(msgspec.Struct, frozen=True):
    """`{{pipeline}}`, or `{{$x := pipeline}}`, which shows nothing."""

    value: Pipe
    variables: tuple[str, ...] = ()


class Branch(msgspec.Struct, frozen=True):
    """`if`, `range` or `with`, its body and its else branch."""

    kind: str
    value: Pipe
    variables: tuple[str, ...]
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...] = ()


Node = Text | Show | Branch


def parse(template: str) -> tuple[Node, ...]:
    """The nodes of a `--format`. Raises InvalidArgument."""
    try:
        return nodes_of(template)
    except Fault as fault:
        raise of_format(fault) from None


def nodes_of(template: str) -> tuple[Node, ...]:
    """The template's nodes. Raises Fault."""
    if len(template) > TEMPLATE_LENGTH_MAX:
        raise unfit("length", len(template), f"expected at most {TEMPLATE_LENGTH_MAX}")
    nodes, end = _Parser(list(_pieces(template))).nodes(0)
    if end:
        plain = "{{else}} or {{end}} without a block before it"
        raise Fault(f"{{{{{end}}}}} without a block before it", plain)
    return nodes


def _pieces(template: str) -> Iterator[Text | str]:
    """Text, and the inside of each action, in turn; trim markers are applied."""
    position, trim = 0, False
    while (begin := template.find("{{", position)) >= 0:
        match = _ACTION.match(template, begin) or _UNREADABLE.match(template, begin)
        if match is None:
            plain = f"the action from character {begin + 1} does not end"
            raise Fault(f"an action does not end: {quoted(template[begin:])}", plain)
        text = template[position:begin]
        text = text.lstrip() if trim else text
        yield from _text(text.rstrip() if match[1] else text)
        if not match[2].strip().startswith("/*"):
            yield match[2].strip()
        position, trim = match.end(), bool(match[3])
    rest = template[position:]
    yield from _text(rest.lstrip() if trim else rest)


def _text(text: str) -> Iterator[Text]:
    if text:
        yield Text(text)


class _Parser:
    def __init__(self, pieces: Sequence[Text | str]) -> None:
        self._pieces = pieces
        self._next = 0

    def nodes(self, depth: int) -> tuple[tuple[Node, ...], str]:
        """Nodes up to the end of the block, and the action that ends it."""
        if depth > DEPTH_MAX:
            raise Fault(f"more than {DEPTH_MAX} nested blocks")
        found: list[Node] = []
        while self._next < len(self._pieces):
            piece = self._pieces[self._next]
            self._next += 1
            if isinstance(piece, Text):
                found.append(piece)
                continue
            keyword = piece.split(None, 1)[0] if piece else ""
            if keyword in ("else", "end"):
                return tuple(found), piece
            found.append(self._action(keyword, piece, depth))
        return tuple(found), ""

    def _action(self, keyword: str, piece: str, depth: int) -> Node:
        if keyword in _REFUSED:
            raise Fault(f"{keyword} is not supported")
        if keyword not in _BLOCKS:
            variables, value = _Tokens(piece).statement()
            return Show(value, variables)
        return self._block(keyword, piece.removeprefix(keyword), depth)

    def _block(self, kind: str, head: str, depth: int) -> Branch:
        variables, value = _Tokens(head).statement()
        body, end = self.nodes(depth + 1)
        otherwise: tuple[Node, ...] = ()
        if end.startswith("else"):
            condition = end.removeprefix("else").strip()
            if condition:
                keyword, _, rest = condition.partition(" ")
                if keyword not in ("if", "with"):
                    wrong = "is not valid: expected else, or else if"
                    raise Fault(f"{{{{{end}}}}} {wrong}", f"{{{{else …}}}} {wrong}")
                return Branch(
                    kind, value, variables, body, (self._block(keyword, rest, depth + 1),)
                )
            otherwise, end = self.nodes(depth + 1)
        if end != "end":
            raise Fault(f"{{{{{kind}}}}} without {{{{end}}}}")
        return Branch(kind, value, variables, body, otherwise)


class _Tokens:
    """The tokens of one action."""

    def __init__(self, text: str) -> None:
        self._source = text.strip()
        self._tokens = list(self._split())
        self._at = 0

    def statement(self) -> tuple[tuple[str, ...], Pipe]:
        """A pipeline, optionally with variables that take its value."""
        variables: tuple[str, ...] = ()
        signs = [text for kind, text, _ in self._tokens if kind == "sign"]
        if ":=" in signs or "=" in signs:
            variables = tuple(self._variables())
        pipe = self._pipe(0)
        if self._at < len(self._tokens):
            raise self._wrong(f"{quoted(self._tokens[self._at][1])} is unexpected", _UNEXPECTED)
        return variables, pipe

    def _split(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        position = 0
        while position < len(self._source):
            match = _TOKEN.match(self._source, position)
            if match is None or match.lastgroup is None:
                left = quoted(self._source[position:].strip())
                raise self._wrong(f"cannot read {left}", _UNEXPECTED)
            text, chain = match[match.lastgroup], ""
            if match.lastgroup in ("variable", "sign"):
                text, _, chain = text.partition(".")
            yield match.lastgroup, text, tuple(filter(None, chain.split(".")))
            position = match.end()

    def _variables(self) -> Iterator[str]:
        while self._at < len(self._tokens):
            kind, text, _ = self._tokens[self._at]
            self._at += 1
            if kind == "variable":
                yield text
            elif text in (":=", "="):
                return
            elif text != ",":
                raise self._wrong("only variables stand before :=")

    def _pipe(self, depth: int) -> Pipe:
        if depth > DEPTH_MAX:
            raise self._wrong(f"more than {DEPTH_MAX} parentheses")
        stages = [self._command(depth)]
        while self._peek() == "|":
            self._at += 1
            stages.append(self._command(depth))
        return Pipe(tuple(stages))

    def _command(self, depth: int) -> Expression:
        first = self._operand(depth)
        arguments = []
        while self._peek() not in ("|", ")", ""):
            arguments.append(self._operand(depth))
        if isinstance(first, Call):
            return Call(first.name, tuple(arguments))
        if not arguments:
            return first
        if isinstance(first, Path) and (field := METHODS.get("".join(first.fields[-1:]))):
            value = Path(first.variable, (*first.fields[:-1], field))
            return Call(f".{first.fields[-1]}", (value, *arguments))
        raise self._wrong("a value takes no arguments")

    def _operand(self, depth: int) -> Expression:
        if self._at >= len(self._tokens):
            raise self._wrong("a value is missing")
        kind, text, chain = self._tokens[self._at]
        self._at += 1
        if text == "(":
            pipe = self._pipe(depth + 1)
            if self._peek() != ")":
                raise self._wrong("a parenthesis is not closed")
            fields = self._tokens[self._at][2]
            self._at += 1
            return Pipe(pipe.stages, fields)
        return self._atom(kind, text, chain)

    def _atom(self, kind: str, text: str, chain: tuple[str, ...]) -> Expression:
        match kind:
            case "string":
                return Literal(text[1:-1] if text[0] == "`" else self._unquoted(text))
            case "number":
                return Literal(self._number(text))
            case "variable":
                return Path(text, chain)
            case "field":
                return Path(None, (*text[1:].split("."), *chain))
            case "dot":
                return Path(None, ())
            case "word":
                return Literal(_CONSTANTS[text]) if text in _CONSTANTS else Call(text, ())
            case _:
                raise self._wrong(f"{quoted(text)} is unexpected", _UNEXPECTED)

    def _number(self, text: str) -> int | float:
        # int() refuses thousands of digits.
        value = float(text) if "." in text or len(text) > NUMBER_LENGTH_MAX else int(text)
        if not -(2**63) <= value < 2**63:
            raise self._wrong("a number has more than 64 bits")
        return value

    def _unquoted(self, text: str) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            raise self._wrong(f"cannot read the string {text}", "cannot read a string") from None
        return str(value)

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _wrong(self, why: str, plain: str = "") -> Fault:
        told = f"an action is not valid: {plain or why}"
        return unfit("action", f"{{{{{self._source}}}}}", why, told)
