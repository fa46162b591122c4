"""A service's earlier specs: what each changed, in short and as a unified diff. PURE."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from cli.render.listing import Layout, Row, ellipsis, one_line
from pyswarm_core.clock import Instant
from pyswarm_core.docker import documents
from pyswarm_core.docker.changes import DOCUMENT_PARTS, NUMBERS
from pyswarm_core.docker.units import ago, format_time
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec

CHANGES_SHOWN = 4
VALUE_SHOWN = 40
"""Changed fields of a version that are named, and characters of each value."""
_ABSENT = "none"

LAYOUT = Layout(
    headings={
        "Version": "VERSION",
        "Created": "CREATED",
        "CreatedAt": "CREATED AT",
        "Current": "CURRENT",
        "Image": "IMAGE",
        "Changes": "CHANGES",
    },
    columns=("Version", "Created", "Image", "Changes"),
    quiet="Version",
)


class Revision(NamedTuple):
    """A spec that the service has or had."""

    version: int
    created_at: Instant
    """0: unknown."""
    spec: ServiceSpec
    is_current: bool = False


def revisions(service: Service) -> list[Revision]:
    """The current spec and the kept ones, newest first."""
    since = service.updated_at if service.previous_specs else service.created_at
    current = Revision(service.spec_version, since, service.spec, is_current=True)
    return [
        current,
        *(Revision(one.version, one.created_at, one.spec) for one in service.previous_specs),
    ]


def rows(found: Sequence[Revision], now: Instant) -> Iterator[Row]:
    """A row per spec; the oldest one has nothing to be compared with."""
    for number, one in enumerate(found):
        changes = (
            ", ".join(changed(found[number + 1].spec, one.spec)) if found[number + 1 :] else ""
        )
        image = one.spec.task_template.container_spec.image
        yield {
            "Version": one.version,
            "Created": ago(one.created_at, now) if one.created_at else "",
            "CreatedAt": _time(one.created_at),
            "Current": one.is_current,
            "Image": image.partition("@")[0],
            "Changes": changes,
        }


def changed(old: ServiceSpec, new: ServiceSpec) -> list[str]:
    """The changed fields, the first ones with their values: `Image web:1 -> web:2`."""
    before, after = _flat(documents.pruned(old)), _flat(documents.pruned(new))
    paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    shown = [
        f"{path} {_change(path, before.get(path), after.get(path))}"
        for path in paths[:CHANGES_SHOWN]
    ]
    more = len(paths) - CHANGES_SHOWN
    return [*shown, f"and {more} more"] if more > 0 else shown


def diffs(found: Sequence[Revision]) -> Iterator[str]:
    """Unified diffs of the specs' documents, each with the one before it, newest first."""
    for newer, older in pairwise(found):
        yield from unified_diff(
            documents.lines(older.spec),
            documents.lines(newer.spec),
            f"{older.spec.name} version {older.version}",
            f"{newer.spec.name} version {newer.version}",
            _time(older.created_at),
            _time(newer.created_at),
            lineterm="",
        )


def _time(at: Instant) -> str:
    return format_time(at) if at else ""


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The document's fields by their paths; maps of labels and the like are fields themselves."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        path = prefix if key in DOCUMENT_PARTS else f"{prefix}{key}."
        if isinstance(item, dict) and item and key not in ("Labels", "Sysctls"):
            found.update(_flat(item, path))
        elif item not in ({}, None):
            found[f"{prefix}{key}"] = item
    return found


def _change(path: str, old: Any, new: Any) -> str:
    if isinstance(old, list | dict) or isinstance(new, list | dict):
        gone = [f"-{_word(one)}" for one in _items(old) if one not in _items(new)]
        added = [f"+{_word(one)}" for one in _items(new) if one not in _items(old)]
        return " ".join([*added, *gone]) or "reordered"
    form = NUMBERS.get(path.rpartition(".")[2])
    before, after = (_word(form(one) if form and one is not None else one) for one in (old, new))
    shorter = [text.partition("@sha256:")[0] for text in (before, after)]
    return " -> ".join(shorter if shorter[0] != shorter[1] else (before, after))


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    return value if isinstance(value, list) else []


def _word(value: Any) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, dict) and (name := value.get("SecretName") or value.get("ConfigName")):
        return f"{name}@{value.get('Number', 0)}"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return ellipsis(one_line(text), VALUE_SHOWN)
