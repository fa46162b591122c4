"""The model as a file of version 3, which `docker stack deploy` accepts. PURE.

What Docker's schema 3.13 lacks is left out; numbers and texts have the types that it requires.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compose.forms.ports import span
from compose.text.words import go_text, octal

VERSION = "3.13"
_KEYS = frozenset(
    "build cap_add cap_drop cgroup_parent command configs container_name credential_spec "
    "depends_on deploy devices dns dns_search domainname entrypoint env_file environment expose "
    "external_links extra_hosts healthcheck hostname image init ipc isolation labels links logging "
    "mac_address network_mode networks oom_score_adj pid ports privileged read_only restart "
    "secrets security_opt shm_size stdin_open stop_grace_period stop_signal sysctls tmpfs tty "
    "ulimits user userns_mode volumes working_dir".split()
)
_NETWORK = frozenset("name driver driver_opts ipam external internal attachable labels".split())
_VOLUME = frozenset("name driver driver_opts external labels".split())
_DATA = frozenset("name file external labels driver driver_opts template_driver".split())
_BUILD = frozenset("context dockerfile args labels cache_from network target shm_size".split())
_MOUNT = frozenset("type source target read_only consistency bind volume tmpfs".split())
_HEALTHCHECK = frozenset(
    "disable interval timeout test retries start_period start_interval".split()
)
_ATTACHMENT = frozenset("aliases ipv4_address ipv6_address driver_opts".split())
_SECRETS = "/run/secrets/"


def version_3(model: Mapping[str, Any], versions: tuple[str, ...]) -> dict[str, Any]:
    """The file. Its version is the highest of `versions` that begin with 3."""
    known = [version for version in versions if version.startswith("3")]
    found: dict[str, Any] = {"version": max(known, key=_number, default=VERSION)}
    found["services"] = {name: _service(one) for name, one in model["services"].items()}
    for section, keys in (
        ("networks", _NETWORK), ("volumes", _VOLUME), ("secrets", _DATA), ("configs", _DATA),
    ):  # fmt: skip
        project = model["name"]
        objects = {
            key: _object(key, one, project, keys) for key, one in model.get(section, {}).items()
        }
        kept = {key: one for key, one in objects.items() if one or key != "default"}
        if kept:
            found[section] = kept
    found |= {key: value for key, value in model.items() if key.startswith("x-")}
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _only(value: Mapping[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: child for key, child in value.items() if key in keys or key.startswith("x-")}


def _object(
    key: str, value: Mapping[str, Any], project: str, keys: frozenset[str]
) -> dict[str, Any]:
    found = _only(value, keys)
    is_external = found.get("external")
    if found.get("name") == (key if is_external else f"{project}_{key}"):
        del found["name"]
    if "ipam" in found:
        blocks = [_only(block, frozenset({"subnet"})) for block in found["ipam"].get("config", ())]
        found["ipam"] = _only({**found["ipam"], "config": blocks}, frozenset({"driver", "config"}))
    return found


def _service(service: Mapping[str, Any]) -> dict[str, Any]:
    found = _only(service, _KEYS)
    for key, convert in _CONVERTED.items():
        if key in found:
            found[key] = convert(found[key])
    if found.get("networks") in ({"default": None}, {}):
        del found["networks"]
    return found


def _ports(ports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for port in ports for one in _port(port)]


def _port(port: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kept = _only(port, frozenset({"mode", "target", "protocol"}))
    if "protocol" in kept:
        kept["protocol"] = kept["protocol"].lower()
    published = span(port.get("published", ""))
    if published is None:
        yield kept
        return
    for number in range(published.first, published.last + 1):
        yield {**kept, "published": number}


def _mounts(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for mount in mounts:
        one = _only(mount, _MOUNT)
        bind = _only(one.pop("bind", {}), frozenset({"propagation"}))
        volume = _only(one.pop("volume", {}), frozenset({"nocopy", "subpath"}))
        tmpfs = one.pop("tmpfs", {})
        if "size" in tmpfs:
            tmpfs = {"size": int(tmpfs["size"])}
        groups = (("bind", bind), ("volume", volume), ("tmpfs", tmpfs))
        found.append({**one, **{key: value for key, value in groups if value}})
    return found


def _references(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for entry in entries:
        one = dict(entry)
        if one.get("target") == _SECRETS + one["source"]:
            del one["target"]
        if "mode" in one:
            one["mode"] = octal(one["mode"])
        found.append(one)
    return found


def _deploy(deploy: dict[str, Any]) -> dict[str, Any]:
    resources = {}
    for key, amounts in deploy.get("resources", {}).items():
        kept = _only(amounts, frozenset({"cpus", "memory", "pids", "generic_resources"}))
        if "cpus" in kept:
            kept["cpus"] = go_text(kept["cpus"])
        resources[key] = kept
    return {**deploy, "resources": resources} if resources else deploy


def _hosts(hosts: list[str]) -> list[str]:
    return [":".join(host.split("=", 1)) for host in hosts]


def _devices(devices: list[dict[str, str]]) -> list[str]:
    return [
        ":".join(device[key] for key in ("source", "target", "permissions") if key in device)
        for device in devices
    ]


def _attachments(networks: dict[str, Any]) -> dict[str, Any]:
    return {key: value and _only(value, _ATTACHMENT) for key, value in networks.items()}


_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "build": lambda value: _only(value, _BUILD),
    "configs": _references,
    "depends_on": list,
    "deploy": _deploy,
    "devices": _devices,
    "extra_hosts": _hosts,
    "healthcheck": lambda value: _only(value, _HEALTHCHECK),
    "networks": _attachments,
    "ports": _ports,
    "secrets": _references,
    "volumes": _mounts,
}
