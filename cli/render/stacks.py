"""A stack's earlier versions, and what each changed. PURE."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cli.render.history import changed
from cli.render.listing import Layout, Row, one_line
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import ago, format_time
from pyswarm_core.stacks.stack import PreviousStack, Stack, StackContent

LAYOUT = Layout(
    headings={
        "Version": "VERSION",
        "Created": "CREATED",
        "CreatedAt": "CREATED AT",
        "Current": "CURRENT",
        "By": "BY",
        "Services": "SERVICES",
        "Changes": "CHANGES",
    },
    columns=("Version", "Created", "By", "Services", "Changes"),
    quiet="Version",
)


def rows(stack: Stack, now: Instant) -> Iterator[Row]:
    """A row per version, newest first; the oldest one has nothing to be compared with."""
    current = PreviousStack(
        version=stack.spec_version,
        spec=stack.spec,
        created_at=stack.applied_at,
        updated_by=stack.updated_by,
    )
    found = [current, *stack.previous_specs]
    for number, one in enumerate(found):
        before = found[number + 1].spec if found[number + 1 :] else None
        changes = ", ".join(changes_of(before, one.spec)) if before is not None else ""
        yield {
            "Version": one.version,
            "Created": ago(one.created_at, now) if one.created_at else "",
            "CreatedAt": format_time(one.created_at) if one.created_at else "",
            "Current": number == 0,
            "By": one.updated_by.name if one.updated_by is not None else "",
            "Services": len(one.spec.services),
            "Changes": one_line(changes),
        }


def changes_of(old: StackContent, new: StackContent) -> Iterator[str]:
    """`+shop_cache`, `-shop_old`, `shop_web: Image web:1 -> web:2`, `shop_password@2`."""
    before, after = _named(old.services), _named(new.services)
    yield from (f"+{name}" for name in after if name not in before)
    yield from (f"-{name}" for name in before if name not in after)
    for name in after:
        if name in before and before[name] != after[name]:
            yield f"{name}: {', '.join(changed(before[name], after[name]))}"
    for section in ("networks", "volumes"):
        had, has = _named(getattr(old, section)), _named(getattr(new, section))
        yield from (f"+{name}" for name in has if name not in had)
        yield from (f"-{name}" for name in had if name not in has)
    known = {(one.spec.name, one.number) for one in (*old.secrets, *old.configs)}
    for one in (*new.secrets, *new.configs):
        if (one.spec.name, one.number) not in known:
            yield f"{one.spec.name}@{one.number}"


def _named(specs: Iterable[Any]) -> Mapping[str, Any]:
    return {one.name: one for one in specs}
