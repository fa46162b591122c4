"""Images in the form of Docker's API, as `inspect` and `history` show them. PURE.

A configuration is of whoever built the image: what has another type than it should is shown as if
it were absent.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.images.views import InspectedImage

_NEVER = "0001-01-01T00:00:00Z"
_MISSING = "<missing>"


class Step(NamedTuple):
    """One line of `history`."""

    id: str
    created: str
    """RFC 3339; empty if it is not known."""
    created_by: str
    size_bytes: int
    comment: str


def command_of(image: InspectedImage) -> tuple[str, ...]:
    """The command line of a container that is given none."""
    run = _dict(_config(image), "config")
    return tuple(map(str, (*_list(run, "Entrypoint"), *_list(run, "Cmd"))))


def document(image: InspectedImage) -> dict[str, Any]:
    """The image in Docker's form, with the nodes that have it and the services that need it."""
    config = _config(image)
    run, rootfs = _dict(config, "config"), _dict(config, "rootfs")
    names = [_familiar(name) for name in image.names]
    found = {
        "Id": f"sha256:{image.id.removeprefix('sha256:')}",
        "RepoTags": [name for name in names if "@" not in name],
        "RepoDigests": [name for name in names if "@" in name]
        or _digests(image.names, image.digest),
        "Parent": "",
        "Comment": _comment(config),
        "Created": _text(config, "created"),
        "DockerVersion": _text(config, "docker_version"),
        "Author": _text(config, "author"),
        "Config": run,
        "Architecture": _text(config, "architecture"),
        "Os": _text(config, "os"),
        "Size": image.size_bytes,
        "GraphDriver": {"Data": None, "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": _list(rootfs, "diff_ids")},
        "Metadata": {"LastTagTime": _NEVER},
        "Nodes": list(image.nodes),
        "Services": list(image.services),
    }
    if variant := _text(config, "variant"):
        found["Variant"] = variant
    return found


def history(image: InspectedImage) -> list[Step]:
    """The steps that made the image, the newest first."""
    steps = [one for one in _list(_config(image), "history") if isinstance(one, dict)]
    sizes = list(image.details.layer_sizes)
    found = []
    for one in steps:
        empty = one.get("empty_layer") is True
        size = 0 if empty or not sizes else sizes.pop(0)
        text, by, comment = (_text(one, key) for key in ("created", "created_by", "comment"))
        found.append(Step(_MISSING, text, by, size, comment))
    # Layers of which the history has no step, such as those of an import.
    found += [Step(_MISSING, "", "", size, "") for size in sizes]
    found.reverse()
    top = [found[0]._replace(id=image.id)] if found else []
    return [*top, *found[1:]]


def _config(image: InspectedImage) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(image.details.config or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _comment(config: dict[str, Any]) -> str:
    steps = [one for one in _list(config, "history") if isinstance(one, dict)]
    return _text(steps[-1], "comment") if steps else ""


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _dict(found: dict[str, Any], key: str) -> dict[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _list(found: dict[str, Any], key: str) -> list[Any]:
    value = found.get(key)
    return value if isinstance(value, list) else []


def _familiar(name: str) -> str:
    try:
        return parse_reference(name).familiar
    except InvalidArgument:
        return name


def _digests(names: Iterable[str], digest: str) -> list[str]:
    if not digest:
        return []
    return sorted({f"{_familiar(name).rpartition(':')[0] or name}@{digest}" for name in names})
