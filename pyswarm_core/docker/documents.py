"""Objects as `inspect` prints them: Docker's keys, RFC 3339 times, no empty fields. PURE."""

from typing import Any

import msgspec

from pyswarm_core.docker.units import format_time
from pyswarm_core.model import Model, to_json_value
from pyswarm_core.specs import SERVICE_MODES

_TIMES = frozenset(
    {"CreatedAt", "UpdatedAt", "Since", "StartedAt", "CompletedAt", "IssuedAt", "ExpiresAt"}
)
_TIMES_OR_NONE = frozenset({"StartedAt", "CompletedAt", "IssuedAt", "ExpiresAt"})
"""Those of them that are empty while they are 0."""
_KEPT = frozenset(
    {"Spec", "Labels", "Resources", "Limits", "Reservations", "Global", "Placement", "Version"}
)
"""Maps that Docker shows even if they are empty."""
_OF_USERS = frozenset({"Labels", "Annotations", "Options", "Sysctls"})
"""Maps whose keys and values are users', which may be empty."""
_UNSET = frozenset(
    {
        "NanoCPUs",
        "MemoryBytes",
        "MaxTasks",
        "Pids",
        "SwapBytes",
        "MaxReplicas",
        "OomScoreAdj",
        "MTU",
        "Interval",
        "Timeout",
        "StartPeriod",
        "StartInterval",
        "Retries",
        "MaxDelay",
        "CpuShares",
        "CpuPeriod",
        "CpuQuota",
        "MemoryReservation",
        "BlkioWeight",
        "NetEgress",
        "NetIngress",
        "OomKillDisable",
        "Stopped",
        "Privileged",
        "ShmSize",
        "OpenStdin",
        "StdinOnce",
        "RemoveVolumes",
        "NonRecursive",
        "CreateMountpoint",
        "ReadOnlyNonRecursive",
        "ReadOnlyForceRecursive",
        "NoCopy",
        "SizeBytes",
    }
)
"""Numbers that are left out if they are 0."""


_TAG = "type"
"""The key of a tagged struct's tag in msgspec."""


def document(model: Model) -> dict[str, Any]:
    """The object with every key, for templates; times are RFC 3339."""
    return _readable(to_json_value(model))


def pruned(model: Model) -> dict[str, Any]:
    """The object as JSON output shows it: without empty and unset fields."""
    found: dict[str, Any] = _pruned(document(model))
    return found


def lines(model: Model) -> list[str]:
    """The lines of the object's JSON output."""
    text = msgspec.json.format(msgspec.json.encode(pruned(model)), indent=4)
    return text.decode().split("\n")


def without_unset(found: dict[str, Any]) -> dict[str, Any]:
    """The document as JSON output shows it: without empty and unset fields."""
    shown: dict[str, Any] = _pruned(found)
    return shown


def show(documents: list[dict[str, Any]], form: str = "", *, whole: bool = False) -> list[str]:
    """The objects as a JSON array, one JSON line each (`json`), or a template's text each. JSON has
    no empty and unset fields, unless `whole`.

    Raises InvalidArgument for a template that is not valid or names an unknown key.
    """
    if form in ("", "json") and not whole:
        documents = [_pruned(found) for found in documents]
    if not form:
        return [msgspec.json.format(msgspec.json.encode(documents), indent=4).decode()]
    if form == "json":
        return [msgspec.json.encode(found).decode() for found in documents]
    from pyswarm_core.gotemplate.evaluate import render
    from pyswarm_core.gotemplate.parse import parse

    nodes = parse(form.replace("\\t", "\t").replace("\\n", "\n"))
    return [render(nodes, found) for found in documents]


def _readable(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _read(key, item) for key, item in value.items()}


def _read(key: str, item: Any) -> Any:
    if key in _TIMES:
        return format_time(item) if item or key not in _TIMES_OR_NONE else ""
    if key == "Mode" and isinstance(item, dict):
        return _mode(item)
    if key == "Preferences":
        return [{"Spread": {"SpreadDescriptor": label}} for label in item]
    if isinstance(item, dict):
        return item if key in ("Labels", "Annotations") else _readable(item)
    if isinstance(item, float) and item.is_integer():
        return int(item)  # as Go prints it
    if isinstance(item, list | tuple):
        return [_readable(one) if isinstance(one, dict) else one for one in item]
    return item


def _mode(item: dict[str, Any]) -> dict[str, Any]:
    """A service's mode: a key for each mode, one of them with a value."""
    fields = {key: value for key, value in item.items() if key != _TAG}
    return {word.capitalize(): fields if word == item[_TAG] else None for word in SERVICE_MODES}


def _pruned(value: Any) -> Any:
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: item if key in _OF_USERS else _pruned(item) for key, item in value.items()}
    return {key: item for key, item in found.items() if not _is_unset(key, item)}


def _is_unset(key: str, item: Any) -> bool:
    if item is None:
        return True
    if isinstance(item, str | list | dict) and not item:
        return key not in _KEPT or not isinstance(item, dict)
    return item == 0 and key in _UNSET
