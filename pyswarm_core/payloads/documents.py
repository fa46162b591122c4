"""Secrets and configs in the form of Docker's API, as `inspect` shows them. PURE."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from pyswarm_core.docker.units import format_time, pretty_time
from pyswarm_core.payloads.payload import Config, Payload


def of_payload(item: Payload) -> dict[str, Any]:
    """Docker's document, then the keys of pyswarm alone. Only a config's has data."""
    spec: dict[str, Any] = {"Name": item.spec.name, "Labels": item.spec.labels}
    if isinstance(item, Config):
        spec["Data"] = b64encode(item.data).decode()
    if item.spec.templating is not None:
        spec["Templating"] = {"Name": item.spec.templating.name}
    if item.spec.keep_versions:
        spec["KeepVersions"] = item.spec.keep_versions
    return {
        "ID": item.id,
        "Version": {"Index": item.version.index},
        "CreatedAt": format_time(item.created_at),
        "UpdatedAt": format_time(item.updated_at),
        "Spec": spec,
        "Number": item.number,
    }


def lines_of(item: Payload) -> Iterator[str]:
    """`inspect --pretty` with Docker's lines, whose gaps differ, and the number of the version."""
    is_config = isinstance(item, Config)
    yield f"ID:\t\t\t{item.id}" if is_config else f"ID:              {item.id}"
    yield f"Name:\t\t\t{item.spec.name}" if is_config else f"Name:              {item.spec.name}"
    if item.spec.labels:
        yield "Labels:"
        for key, value in sorted(item.spec.labels.items()):
            yield f" - {key}={value}" if value else f" - {key}"
    gap = "            \t" if is_config else "        "
    if not is_config:
        yield "Driver:            "
    yield f"Created at:{gap}{pretty_time(item.created_at)}"
    yield f"Updated at:{gap}{pretty_time(item.updated_at)}"
    yield f"Version:{gap}{item.number}" if is_config else f"Version:           {item.number}"
    if isinstance(item, Config):
        yield "Data:"
        yield from item.data.decode(errors="replace").removesuffix("\n").split("\n")
