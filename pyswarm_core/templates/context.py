"""Swarm's template context: what `{{.Task.Slot}}` and its kind are in the spec of a service. PURE.

Docker expands the values of `--env`, `--hostname`, and of `--mount` source, target, labels and
driver options. The language is that of `--format` (gotemplate/) with Go's own functions and Swarm's
`join SEPARATOR TEXT...`; templates of a payload have more functions, which their caller passes.
A field that does not exist is an error, and so is a label that the service does not have:
`{{index .Service.Labels "tier"}}` is empty then.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.gotemplate.evaluate import FUNCTIONS as ALL_FUNCTIONS
from pyswarm_core.gotemplate.evaluate import Bounds, StringMap, go_text, text_of
from pyswarm_core.gotemplate.fault import Fault
from pyswarm_core.gotemplate.parse import Branch, Call, Expression, Node, Path, Pipe, Show, nodes_of

STEPS_MAX = 2_000
"""Nodes and expressions of a template that are evaluated (about 2 us each): specs come from any
caller.
"""
STEPS_OF_MOUNT = 200
"""The same of a template in a mount: controllers expand it for each slot, or for each node."""
TEXT_MAX = 10_000
"""Characters of an expanded value. A payload may have more."""
TEXT_OF_MOUNT = 4_096
"""Characters of an expanded value in a mount: the longest are paths and options of mount(2)."""
_BUILTIN = ("and or not len index print println printf eq ne lt le gt ge").split()
_ESCAPE = 'a literal {{ is written {{"{{"}}'
_Tree = Mapping[str, Any]
_Named = tuple[str, ...] | str
"""A path of fields, or a function."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A task, its service and its node, as templates see them."""

    service_id: str = ""
    service_name: str = ""
    service_labels: Mapping[str, str] = {}
    node_id: str = ""
    node_hostname: str = ""
    os: str = ""
    architecture: str = ""
    task_id: str = ""
    task_name: str = ""
    """`web.1.<task id>`; of a global service `web.<node id>.<task id>`."""
    slot: str = ""
    """Of a global service the node's id, as in Swarm."""

    @property
    def data(self) -> dict[str, Any]:
        """The values by the names of their fields."""
        platform = {"Architecture": self.architecture, "OS": self.os}
        return {
            "Service": {
                "ID": self.service_id,
                "Name": self.service_name,
                "Labels": StringMap(self.service_labels),
            },
            "Node": {"ID": self.node_id, "Hostname": self.node_hostname, "Platform": platform},
            "Task": {"ID": self.task_id, "Name": self.task_name, "Slot": self.slot},
        }


def task_context(
    *,
    service_id: str,
    service_name: str,
    service_labels: Mapping[str, str],
    task_id: str = "",
    slot: int,
    is_global: bool = False,
    node_id: str = "",
    hostname: str = "",
    os: str = "",
    architecture: str = "",
) -> Context:
    """The context of a task. What is not known before its placement may be left out."""
    place = node_id if is_global else str(slot)
    return Context(
        service_id=service_id,
        service_name=service_name,
        service_labels=service_labels,
        node_id=node_id,
        node_hostname=hostname,
        os=os,
        architecture=architecture,
        task_id=task_id,
        task_name=f"{service_name}.{place}.{task_id}",
        slot=place,
    )


def _join(separator: Any, *texts: Any) -> str:
    return go_text(separator).join(map(go_text, texts))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: ALL_FUNCTIONS[name] for name in _BUILTIN},
    "join": _join,
}
"""Of every template in a spec. A payload's `secret`, `config` and `env` are passed to `expand`."""


def is_template(text: str) -> bool:
    """Whether the text has anything to expand."""
    return "{{" in text


def expand(
    field: str,
    text: str,
    context: Context,
    functions: Mapping[str, Callable[..., Any]] = FUNCTIONS,
    *,
    shown: str = "",
    text_max: int = TEXT_MAX,
    steps_max: int = STEPS_MAX,
) -> str:
    """The text for one task. In errors `field` names the flag, and `shown` stands for a text that
    may be a secret. Functions raise ValueError with the reason. Raises InvalidArgument.
    """
    if not is_template(text):
        return text
    try:
        return text_of(_nodes(text), context.data, functions, Bounds(steps_max, text_max))
    except Fault as fault:
        raise _not_valid(field, text, fault, shown) from None


def require(
    field: str,
    text: str,
    allowed: frozenset[str] | None = None,
    functions: Collection[str] = FUNCTIONS,
    *,
    shown: str = "",
) -> None:
    """Raise InvalidArgument if the text cannot be read, or names a function or field that does not
    exist, also in a branch that is not taken; or a field that is not among those allowed, e.g.
    `.Task.Slot`.
    """
    if not is_template(text):
        return
    try:
        for name in functions_of(text):
            _require_function(name, functions)
        for path in fields_of(text):
            _require_field(path)
            if allowed is not None and not _leaves(path) <= allowed:
                shown = "." + ".".join(path)
                raise Fault(f"{shown} is not known there: expected {', '.join(sorted(allowed))}")
    except Fault as fault:
        raise _not_valid(field, text, fault, shown) from None


def names(text: str, field: str) -> bool:
    """Whether the template may read the field, e.g. `.Service.Labels`; its syntax is valid."""
    return is_template(text) and any(field in _leaves(path) for path in fields_of(text))


def shows_plainly(text: str, field: str) -> bool:
    """Whether the template reads the field only to show it, outside of conditions and calls: then
    another value of it makes another text. Its syntax is valid.
    """
    if not is_template(text):
        return True
    others = tuple(node for node in _nodes(text) if not _shows(node, field))
    paths = (one for one in _of_nodes(others, at_root=True) if isinstance(one, tuple))
    return not any(field in _leaves(path) for path in paths)


def _shows(node: Node, field: str) -> bool:
    match node:
        case Show(value=Pipe(stages=(Path(variable=None | "$", fields=fields),)), variables=()):
            return "." + ".".join(fields) == field
        case _:
            return False


def fields_of(text: str) -> frozenset[tuple[str, ...]]:
    """The paths of fields that a template names, from the root. Raises Fault."""
    found = _of_nodes(_nodes(text), at_root=True)
    return frozenset(one for one in found if isinstance(one, tuple))


def functions_of(text: str) -> frozenset[str]:
    """The functions that a template calls. Raises Fault."""
    found = _of_nodes(_nodes(text), at_root=True)
    return frozenset(one for one in found if isinstance(one, str))


def _not_valid(field: str, text: str, fault: Fault, shown: str) -> InvalidArgument:
    reason = fault.plain if shown else str(fault)
    return invalid(field, shown or text, f"{reason}; {_ESCAPE}", "template")


@lru_cache(256)
def _nodes(text: str) -> tuple[Node, ...]:
    return nodes_of(text)


_TREE: _Tree = Context().data


def _require_field(path: tuple[str, ...]) -> None:
    """Raise Fault unless the field exists. Labels have any field."""
    value: Any = _TREE
    for field in path:
        if isinstance(value, StringMap):
            return
        if not isinstance(value, dict) or field not in value:
            known = ", ".join(f".{key}" for key in value) if isinstance(value, dict) else ""
            expected = f"expected one of {known}" if known else "expected no field of a text"
            raise Fault(f"field .{'.'.join(path)} does not exist: {expected}")
        value = value[field]


def _leaves(path: tuple[str, ...]) -> frozenset[str]:
    """The fields that a path reads: `.Task` reads `.Task.ID`, `.Task.Name` and `.Task.Slot`."""
    value: Any = _TREE
    taken: list[str] = []
    for field in path:
        if isinstance(value, StringMap):
            break
        value = value.get(field, "") if isinstance(value, dict) else ""
        taken.append(field)
    return frozenset(_below("".join(f".{field}" for field in taken), value))


def _below(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and not isinstance(value, StringMap):
        for key, inner in value.items():
            yield from _below(f"{name}.{key}", inner)
    else:
        yield name


def _of_nodes(nodes: tuple[Node, ...], *, at_root: bool) -> Iterator[_Named]:
    for node in nodes:
        match node:
            case Show(value=value):
                yield from _of_expression(value, at_root=at_root)
            case Branch(kind=kind, value=value, body=body, otherwise=otherwise):
                yield from _of_expression(value, at_root=at_root)
                yield from _of_nodes(body, at_root=at_root and kind == "if")
                yield from _of_nodes(otherwise, at_root=at_root)
            case _:
                pass


def _of_expression(expression: Expression, *, at_root: bool) -> Iterator[_Named]:
    match expression:
        case Path(variable=None, fields=fields):
            if at_root:
                yield fields
        case Path(variable="$", fields=fields):
            yield fields
        case Call(name=name, arguments=arguments):
            yield name
            for argument in arguments:
                yield from _of_expression(argument, at_root=at_root)
        case Pipe(stages=stages):
            for stage in stages:
                yield from _of_expression(stage, at_root=at_root)
        case _:
            pass


def _require_function(name: str, functions: Collection[str]) -> None:
    if name not in functions:
        known = ", ".join(sorted(functions))
        raise Fault(f"function {name.lstrip('.')} does not exist: expected one of {known}")
