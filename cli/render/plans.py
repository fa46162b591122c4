"""What an apply of a stack changes, as lines. PURE."""

from collections.abc import Iterator, Sequence

from cli.render.listing import one_line
from pyswarm_core.stacks.changes import Action, StackChange

SIGNS = {
    Action.CREATED: "+",
    Action.UPDATED: "~",
    Action.REPLACED: "~",
    Action.REMOVED: "-",
    Action.KEPT: "!",
    Action.UNCHANGED: " ",
}
_DOING = {
    Action.CREATED: "Creating",
    Action.UPDATED: "Updating",
    Action.REPLACED: "Updating",
    Action.REMOVED: "Removing",
}
_WOULD = {
    Action.CREATED: "would be created",
    Action.UPDATED: "would be updated; its tasks stay",
    Action.REPLACED: "would be updated; its tasks are replaced",
    Action.REMOVED: "would be removed",
    Action.KEPT: "stays as it is",
}


def done(changes: Sequence[StackChange]) -> Iterator[str]:
    """A line per change, in Docker's words: `Creating network shop_default`."""
    for one in changes:
        if (word := _DOING.get(one.action)) is not None:
            yield f"{word} {one.kind} {one.name}"
        elif one.action is Action.KEPT:
            yield one_line(f"Keeping {one.kind} {one.name}: {one.reason}")


def plan_lines(changes: Sequence[StackChange]) -> Iterator[str]:
    """What would change, with the differences, and how many objects stay as they are."""
    same = 0
    for one in changes:
        if one.action is Action.UNCHANGED:
            same += 1
            continue
        reason = f": {one.reason}" if one.reason and not one.difference else ""
        what = _WOULD[one.action]
        if one.kind != "service" and one.action is Action.UPDATED:
            what = "would be updated"
        yield one_line(f"{SIGNS[one.action]} {one.kind} {one.name} {what}{reason}")
        for line in one.difference:
            yield one_line(f"    {line}")
        if one.difference and ";" in one.reason:
            yield one_line(f"    {one.reason.partition('; ')[2]}")
    if same:
        objects = "object stays" if same == 1 else "objects stay"
        yield f"{same} {objects} as it is" if same == 1 else f"{same} {objects} as they are"
    elif not changes:
        yield "nothing would change"
