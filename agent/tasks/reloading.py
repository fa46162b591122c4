"""Which signals tell a running program of new versions of its secrets and configs. PURE."""

from agent.tasks.record import InPlaceChange, Record
from pyswarm_core.payloads.references import NO_SIGNAL


def is_due(record: Record, change: InPlaceChange) -> bool:
    """Whether its files may be others than the change has."""
    if change.secrets is None or change.configs is None:
        return False
    return change.forced or bool(_moved(record, change))


def signals(record: Record, change: InPlaceChange, *, swapped: bool) -> tuple[str, ...]:
    """The signals that are due once its files are those of the change. A version that is left, by a
    rollback, is told as it was when it came. `swapped`: files were replaced now; they may have
    been before, by an agent that was killed before it sent a signal.
    """
    moved = _moved(record, change)
    if not moved and swapped:  # a change before this one was carried out in part
        moved = [one.reload for one in record.spec.container_spec.references]
        moved += [one.reload for one in (*(change.secrets or ()), *(change.configs or ()))]
    return tuple(dict.fromkeys(one for one in moved if one not in ("", NO_SIGNAL)))


def _moved(record: Record, change: InPlaceChange) -> list[str]:
    """How each version that changes is told."""
    had = {one.path: one for one in record.spec.container_spec.references}
    return [
        one.reload or had[one.path].reload
        for one in (*(change.secrets or ()), *(change.configs or ()))
        if one.path in had and had[one.path].id != one.id
    ]
