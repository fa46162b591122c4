"""Which notices about the files are printed: those that tell something new. SHELL: prints.

A notice about a service, network, volume, secret or config is printed when that is created or
changed, any other when something of the stack is. So an `up` that changes nothing is silent.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cli.compose import flags
from pyswarm_core.stacks.changes import Action, StackChange

if TYPE_CHECKING:
    from compose.mapping.mapped import Mapped
    from compose.report import Remark

_OLD = (Action.UNCHANGED, Action.KEPT, Action.REMOVED)


def tell(mapped: "Mapped", changes: Iterable[StackChange]) -> None:
    """Print the notices about what these changes create or change."""
    changed = {(one.kind, one.name) for one in changes if one.action not in _OLD}
    if changed:
        new = [one for one in mapped.notices if _is_new(mapped, one, changed)]
        flags.print_remarks("Notice", new)


def tell_of(mapped: "Mapped", *paths: str) -> None:
    """Print the notices about what is at these paths."""
    told = [one for one in mapped.notices if any(_is_in(one.path, path) for path in paths)]
    flags.print_remarks("Notice", told)


def _is_new(mapped: "Mapped", remark: "Remark", changed: set[tuple[str, str]]) -> bool:
    about = [one for path, one in mapped.objects.items() if _is_in(remark.path, path)]
    return not about or any(one in changed for one in about)


def _is_in(path: str, outer: str) -> bool:
    """Whether `services.web.ports[0]` is in `services.web`."""
    return path.startswith(outer) and path[len(outer) : len(outer) + 1] in ("", ".", "[")
