"""An nft table as a value, written out whole or as the way from one version to the next. PURE.

Invariant: `change` turns the kernel's `old` into exactly what `whole(new)` would make, in one
transaction, and names only what differs: one service's new backends cost one chain.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec


class Elements(msgspec.Struct, frozen=True):
    """A set, or a map if `values`; its items are in nft's words: `tcp . 80 : goto web`."""

    type: str
    items: frozenset[str] = frozenset()
    values: bool = False
    interval: bool = False


class Chain(msgspec.Struct, frozen=True):
    """Rules in order. `hook` makes it a base chain: `type nat hook output priority -100;`."""

    rules: tuple[str, ...] = ()
    hook: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Sets and counters are the same in every version; items, rules and chains change,
    and other base chains make it a new table.
    """

    elements: Mapping[str, Elements]
    chains: Mapping[str, Chain]
    counters: tuple[str, ...] = ()
    family: str = "inet"


def removal(name: str, family: str = "inet") -> str:
    """Removes the table, there or not."""
    return f"table {family} {name} {{\n}}\ndelete table {family} {name}\n"


def whole(name: str, table: Table) -> str:
    """Replaces the table, whatever it held."""
    place = f"{table.family} {name}"
    lines = [f"table {place} {{"]
    lines += (f"  counter {counter} {{\n  }}" for counter in table.counters)
    for label, elements in table.elements.items():
        lines += _declared(label, elements)
    # Every chain before the first rule: rules and maps may name any of them.
    lines += (
        f"  chain {label} {{\n  }}" for label, chain in table.chains.items() if not chain.hook
    )
    lines.append("}")
    for label, elements in table.elements.items():
        lines += _with_items("add", place, label, elements.items)
    for label, chain in table.chains.items():
        if chain.hook:
            lines.append(f"add chain {place} {label} {{ {chain.hook} policy accept; }}")
        lines += _rules(place, label, chain)
    return removal(name, table.family) + "\n".join(lines) + "\n"


def change(name: str, old: Table, new: Table) -> str:
    """What to tell nft when the kernel holds `old`; "" if that is `new`."""
    if _bases(old) != _bases(new):
        return whole(name, new)
    place = f"{new.family} {name}"
    made = [label for label in new.chains if label not in old.chains]
    lines = [f"add chain {place} {label}" for label in made]
    for label, chain in new.chains.items():
        if (before := old.chains.get(label, Chain())).rules != chain.rules:
            lines += [f"flush chain {place} {label}"] if before.rules else []
            lines += _rules(place, label, chain)
    for label, elements in new.elements.items():
        before_items = old.elements[label].items
        lines += _with_items("delete", place, label, before_items - elements.items)
        lines += _with_items("add", place, label, elements.items - before_items)
    for label in old.chains:
        if label not in new.chains:
            lines += [f"flush chain {place} {label}", f"delete chain {place} {label}"]
    return "".join(f"{line}\n" for line in lines)


def _bases(table: Table) -> dict[str, str]:
    return {label: chain.hook for label, chain in table.chains.items() if chain.hook}


def _declared(label: str, elements: Elements) -> Iterator[str]:
    yield f"  {'map' if elements.values else 'set'} {label} {{"
    yield f"    type {elements.type}"
    if elements.interval:
        yield "    flags interval"
    yield "  }"


def _with_items(verb: str, place: str, label: str, items: Iterable[str]) -> Iterator[str]:
    if text := ", ".join(sorted(items)):
        yield f"{verb} element {place} {label} {{ {text} }}"


def _rules(place: str, label: str, chain: Chain) -> Iterator[str]:
    return (f"add rule {place} {label} {rule}" for rule in chain.rules)
