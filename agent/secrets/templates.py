"""Secrets and configs that are templates, as one task has them. PURE.

Beside the context of the task they have three functions, as in Swarm: `secret` and `config` are the
data of what the task has at that target, unexpanded, so no template is expanded in itself; `env` is
a variable of the spec.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.secrets.plan import kind_of
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.payloads.references import Reference
from pyswarm_core.payloads.templates import TEXT_MAX, text_of
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.templates.context import FUNCTIONS, Context, expand

Read = Callable[[Reference], bytes]
"""The data of a version that the task uses."""


def expanded(
    reference: Reference, data: bytes, spec: ContainerSpec, context: Context, read: Read
) -> bytes:
    """The content of a file or variable whose data is a template. Errors have no part of the data.
    Raises InvalidArgument.
    """
    name = f"{kind_of(reference)} {reference.source}"
    text = text_of(name, data)
    functions: Mapping[str, Callable[..., Any]] = {
        **FUNCTIONS,
        "secret": _of(spec.secrets, "secret", read),
        "config": _of(spec.configs, "config", read),
        "env": _variable(spec.env),
    }
    shown = reference.source
    made = expand(name, text, context, functions, shown=shown, text_max=TEXT_MAX)
    return made.encode()


def _of(references: Iterable[Reference], kind: str, read: Read) -> Callable[[Any], str]:
    known = {one.file.name: one for one in references if not one.variable}

    def data_of(target: Any) -> str:
        if target not in known:
            raise ValueError(f"{kind} target {target} not found")
        try:
            return text_of(f"{kind} {known[target].source}", read(known[target]))
        except InvalidArgument as error:
            raise ValueError(error.reason) from None

    return data_of


def _variable(env: Iterable[str]) -> Callable[[Any], str]:
    known = dict(text.partition("=")[::2] for text in env)

    def value_of(name: Any) -> str:
        if name not in known:
            raise ValueError(f"variable {name} is not set by --env")
        return known[name]

    return value_of
