"""What all forms have. PURE."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

from compose.reading import Reading
from compose.tree import Mark, Node, Path

Identity: TypeAlias = Callable[[Node], Any]
"""What two entries of a list have in common if the later takes the place of the earlier."""


class Rule(Enum):
    """How the value of a later file and the earlier one become one."""

    REPLACE = auto()
    """The later; a later null keeps the earlier."""
    NULL_RESETS = auto()
    """The later; a later null goes back to the image's."""
    MAP = auto()
    """By key, deeply."""
    APPEND = auto()
    """The later entries after the earlier ones, but for those that are there already."""
    UNIQUE = auto()
    """As APPEND; of one file as well, repeated entries count once."""
    KEYED = auto()
    """A list merged by what identifies its entries: the later stands in the earlier one's place."""
    LOGGING = auto()
    """MAP if the drivers agree or one is absent, else REPLACE."""


class Merge(NamedTuple):
    """A rule, and of KEYED what identifies an entry."""

    rule: Rule
    identity: Identity | None = None
    docker: "Merge | None" = None
    """The rule of `docker stack deploy`, if it is another."""


class Form:
    """A form of values. A subclass reads what is not null and not reset."""

    merge = Merge(Rule.REPLACE)
    keeps_null = False
    """Whether null is a value, as of a variable without one."""
    takes_null = False
    """Whether a key may have no value at all once everything is merged."""

    def read(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The normal form, with its mark; None after a fault."""
        if node.mark is Mark.RESET:
            return self.reset(node, at, reading)
        if node.value is None or reading.is_open(node.value):
            return node
        return self.normal(node, at, reading)

    def reset(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """A value that `!reset` removes: it does not count."""
        del at, reading
        return Node(None, node.place, Mark.RESET)

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The normal form of a value that is not null; None after a fault."""
        raise NotImplementedError

    def child(self, key: str) -> "Form | None":
        """The form of the values of a map."""
        del key
        return None

    def is_left_out(self, node: Node) -> bool:
        """Whether the model leaves the value out, because it says nothing."""
        return node.value in (None, "", False, 0) or node.value in ([], {})


class Anything(Form):
    """A value of an `x-` key, as it is."""

    merge = Merge(Rule.MAP)

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The value."""
        del at, reading
        return node

    def is_left_out(self, node: Node) -> bool:
        """Never."""
        del node
        return False


ANYTHING = Anything()
