"""An nft table as a value, and the nft commands that write it or change one version into the next.
PURE.

Invariant: `change` turns the kernel's `old` into exactly what `whole(new)` would write, in one
transaction, and contains only the difference: new backends of one service cost one chain.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec


class Elements(msgspec.Struct, frozen=True):
    """A set, or a map if `values`; items are in nft's syntax: `tcp . 80 : goto web`."""

    type: str
    items: frozenset[str] = frozenset()
    values: bool = False
    interval: bool = False


class Chain(msgspec.Struct, frozen=True):
    """Rules in order. `hook` makes it a base chain: `type nat hook output priority -100;`."""

    rules: tuple[str, ...] = ()
    hook: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a table. Counters and objects are the same in every version; a chain with
    another hook, or a set with another type, requires a rewrite.
    """

    elements: Mapping[str, Elements]
    chains: Mapping[str, Chain]
    counters: tuple[str, ...] = ()
    objects: Mapping[str, str] = {}
    """By the name of the chain that uses it, an object as nft declares it."""
    family: str = "inet"


class Unit(NamedTuple):
    """A part that a table can omit: an item of a set or map, or (no item) a chain's rules."""

    label: str
    item: str = ""

    def __str__(self) -> str:
        return f"{self.label} {{ {self.item} }}" if self.item else f"chain {self.label}"


def units(table: Table, labels: Container[str], chains: tuple[str, ...]) -> list[Unit]:
    """The items of these sets and maps, and the chains whose names begin with one of `chains`."""
    found = [
        Unit(label, item)
        for label, elements in table.elements.items()
        if label in labels
        for item in sorted(elements.items)
    ]
    return found + [Unit(label) for label in table.chains if label.startswith(chains)]


def without(table: Table, left_out: Collection[Unit]) -> Table:
    """The table without these parts. A chain without its rules stays, because other rules jump to
    it; the object that it uses is removed.
    """
    if not left_out:
        return table
    items: dict[str, set[str]] = {}
    for unit in left_out:
        items.setdefault(unit.label, set()).add(unit.item)
    elements = {
        label: msgspec.structs.replace(held, items=held.items - items[label])
        if label in items
        else held
        for label, held in table.elements.items()
    }
    chains = {
        label: Chain() if label in items and label not in table.elements else chain
        for label, chain in table.chains.items()
    }
    objects = {label: text for label, text in table.objects.items() if label not in items}
    return msgspec.structs.replace(table, elements=elements, chains=chains, objects=objects)


def removal(name: str, family: str = "inet") -> str:
    """The commands that remove the table, whether it exists or not."""
    return f"table {family} {name} {{\n}}\ndelete table {family} {name}\n"


def whole(name: str, table: Table) -> str:
    """The commands that replace the table, whatever it contained."""
    place = f"{table.family} {name}"
    lines = [f"table {place} {{"]
    lines += (f"  counter {counter} {{\n  }}" for counter in table.counters)
    lines += (f"  {declaration}" for declaration in table.objects.values())
    lines += (
        f"  {_kind(elements)} {label} {{ {' '.join(_declared(elements))} }}"
        for label, elements in table.elements.items()
    )
    # All chains before the first rule: rules and maps may refer to any of them.
    lines += (
        f"  chain {label} {{\n  }}" for label, chain in table.chains.items() if not chain.hook
    )
    lines.append("}")
    for label, elements in table.elements.items():
        lines += _with_items("add", place, label, elements.items)
    for label, chain in table.chains.items():
        lines += [_added(place, label, chain)] if chain.hook else []
        lines += _rules(place, label, chain)
    return removal(name, table.family) + "\n".join(lines) + "\n"


def change(name: str, old: Table, new: Table) -> str:
    """The commands that turn `old` in the kernel into `new`; "" if they are equal."""
    if _shape(old, new) != _shape(new, old):
        return whole(name, new)
    place = f"{new.family} {name}"
    made = [label for label in new.chains if label not in old.chains]
    lines = [_added(place, label, new.chains[label]) for label in made]
    lines += (
        f"add {_kind(elements)} {place} {label} {{ {' '.join(_declared(elements))} }}"
        for label, elements in new.elements.items() if label not in old.elements
    )  # fmt: skip
    for label, chain in new.chains.items():
        if (before := old.chains.get(label, Chain())).rules != chain.rules:
            lines += [f"flush chain {place} {label}"] if before.rules else []
            lines += _rules(place, label, chain)
    for label, elements in new.elements.items():
        before_items = old.elements[label].items if label in old.elements else frozenset()
        lines += _with_items("delete", place, label, before_items - elements.items)
        lines += _with_items("add", place, label, elements.items - before_items)
    # A chain of a removed device may be gone as well: it is added so that it can be deleted.
    verbs = ("add", "flush", "delete") if new.family == "netdev" else ("flush", "delete")
    for label in old.chains:
        if label not in new.chains:
            lines += [f"{verb} chain {place} {label}" for verb in verbs]
    for label, elements in old.elements.items():
        if label not in new.elements:
            lines.append(f"delete {_kind(elements)} {place} {label}")
    return "".join(f"{line}\n" for line in lines)


def _added(place: str, label: str, chain: Chain) -> str:
    based = f" {{ {chain.hook} policy accept; }}" if chain.hook else ""
    return f"add chain {place} {label}{based}"


def _shape(table: Table, other: Table) -> list[object]:
    """The properties that cannot be changed, of what both tables have."""
    hooks = {n: chain.hook for n, chain in table.chains.items() if n in other.chains}
    types = {n: (_kind(e), *_declared(e)) for n, e in table.elements.items() if n in other.elements}
    return [hooks, types]


def _kind(elements: Elements) -> str:
    return "map" if elements.values else "set"


def _declared(elements: Elements) -> Iterator[str]:
    yield f"type {elements.type};"
    if elements.interval:
        yield "flags interval;"


def _with_items(verb: str, place: str, label: str, items: Iterable[str]) -> Iterator[str]:
    if text := ", ".join(sorted(items)):
        yield f"{verb} element {place} {label} {{ {text} }}"


def _rules(place: str, label: str, chain: Chain) -> Iterator[str]:
    return (f"add rule {place} {label} {rule}" for rule in chain.rules)
