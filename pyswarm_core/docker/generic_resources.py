"""Resources that users define, as in Docker: `gpu=2`, or on a node the set `gpu=UUID1,UUID2`. PURE.

A node offers a number of each kind, or a set of named ones. A task reserves a number of a kind;
its agent chooses the names. Nothing is mounted or isolated by that.
"""

import re
from collections.abc import Iterable

from pyswarm_core.errors import invalid
from pyswarm_core.resources import DiscreteResource, GenericResource, NamedResource

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
RESERVED = "expected KIND=NUMBER such as gpu=2"
OFFERED = "expected KIND=NUMBER such as ssd=4, or KIND=NAME[,NAME…] such as gpu=UUID1,UUID2"


def is_name(text: str) -> bool:
    """Whether the text may be a kind, or the name of one resource of a set."""
    return bool(_NAME.fullmatch(text))


def reserved(flag: str, texts: Iterable[str]) -> tuple[GenericResource, ...]:
    """What a task reserves: `gpu=2`; of several texts, each a comma-separated list, the last of a
    kind wins. Raises InvalidArgument.
    """
    found = {}
    for text in texts:
        for part in text.split(","):
            kind, equals, value = part.partition("=")
            number = _number(value)
            if not equals or not is_name(kind) or not number:
                raise invalid(flag, part, RESERVED)
            found[kind] = _discrete(kind, number)
    return tuple(found.values())


def offered(flag: str, texts: Iterable[str]) -> tuple[GenericResource, ...]:
    """What a node offers: `ssd=4`, `gpu=UUID1,UUID2`, or as for Docker's daemon `gpu=UUID1` several
    times. Raises InvalidArgument.
    """
    names: dict[str, dict[str, None]] = {}
    numbers: dict[str, int] = {}
    for text in texts:
        kind, _, value = text.partition("=")
        words = value.split(",")
        if not is_name(kind) or not all(map(is_name, words)):
            raise invalid(flag, text, OFFERED)
        number = _number(value)
        if number == 0 or (kind in numbers if number is None else kind in names):
            raise invalid(flag, text, OFFERED)
        if number:
            numbers[kind] = number
        else:
            names.setdefault(kind, {}).update(dict.fromkeys(words))
    return (
        *(_discrete(kind, number) for kind, number in numbers.items()),
        *(
            GenericResource(named_resource_spec=NamedResource(kind=kind, value=word))
            for kind, words in names.items()
            for word in words
        ),
    )


def counted(resources: Iterable[GenericResource]) -> dict[str, int]:
    """How many there are of each kind."""
    found: dict[str, int] = {}
    for one in resources:
        if (discrete := one.discrete_resource_spec) is not None:
            found[discrete.kind] = found.get(discrete.kind, 0) + discrete.value
        elif (named := one.named_resource_spec) is not None:
            found[named.kind] = found.get(named.kind, 0) + 1
    return found


def names(resources: Iterable[GenericResource], kind: str) -> tuple[str, ...]:
    """The names of a kind that is a set; empty if it is a number."""
    found = (one.named_resource_spec for one in resources)
    return tuple(named.value for named in found if named is not None and named.kind == kind)


def variable(kind: str) -> str:
    """The environment variable in which a task gets what it has of a kind, as in Docker."""
    return f"DOCKER_RESOURCE_{kind}".upper()


def _discrete(kind: str, number: int) -> GenericResource:
    return GenericResource(discrete_resource_spec=DiscreteResource(kind=kind, value=number))


def _number(text: str) -> int | None:
    """The number; None if the text is a name."""
    return int(text) if _DIGITS.fullmatch(text) else None
