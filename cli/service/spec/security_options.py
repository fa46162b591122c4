"""Docker's flags that isolate a container from its host, or open it: one list for `run`, `service
create` and `service update`.

Flags with one value are in SECURITY; `template` has their fields. Flags with several values are
rows of LISTS: `run` and `create` have them as they are, `update` with `-add` and `-rm`.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from msgspec.structs import replace

from cli.errors import parsed
from pyswarm_core.docker.isolation import security, tmpfs
from pyswarm_core.docker.isolation.seccomp import PROFILE_BYTES_MAX
from pyswarm_core.errors import invalid, quoted, reason_of
from pyswarm_core.specs import ContainerSpec, Device

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

SECURITY = (
    click.option("--shm-size", metavar="BYTES", help="Size of /dev/shm (default 64M)"),
    click.option(
        "--stop-timeout", metavar="NUMBER", help="Timeout (in seconds) to stop a container"
    ),
    click.option(
        "--privileged/--no-privileged",
        default=None,
        help="Give extended privileges to this container",
    ),
    click.option("--pid", metavar="MODE", help="PID namespace to use: host"),
    click.option("--ipc", metavar="MODE", help="IPC mode to use: host, private, shareable or none"),
    click.option("--uts", metavar="MODE", help="UTS namespace to use: host"),
    click.option(
        "--userns",
        metavar="MODE",
        help="User namespace to use: host (default), or auto for ids of the task's own",
    ),
    click.option("--cgroupns", metavar="MODE", help="Cgroup namespace to use: host or private"),
)
"""Flags with one value."""


class _List(NamedTuple):
    """A flag with several values."""

    flag: str
    metavar: str
    key: str
    """What `-rm` takes, and what an added entry shares with the one that it replaces."""
    noun: str
    help: str


LISTS = (
    _List("--tmpfs", "PATH[:OPTIONS]", "PATH", "a tmpfs mount", "Mount a tmpfs directory"),
    _List(
        "--device",
        "HOST[:CONTAINER[:rwm]]",
        "PATH",
        "a host device",
        "Add a host device to the container",
    ),
    _List(
        "--device-cgroup-rule",
        "RULE",
        "RULE",
        "a rule of the cgroup's allowed devices",
        "Add a rule to the cgroup allowed devices list",
    ),
    _List("--security-opt", "OPTION", "NAME", "a security option", "Security options"),
)


def lists(command: F) -> F:
    """Add the flags of LISTS to `run` or `create`."""
    for row in reversed(LISTS):
        command = _many(row.flag, row.metavar, row.help)(command)
    return command


def changes(command: F) -> F:
    """Add the flags of LISTS to `update`."""
    for row in reversed(LISTS):
        command = _many(f"{row.flag}-rm", row.key, f"Remove {row.noun}")(command)
        command = _many(f"{row.flag}-add", row.metavar, f"Add or update {row.noun}")(command)
    return command


def _many(flag: str, metavar: str, text: str) -> Callable[[F], F]:
    return click.option(flag, multiple=True, metavar=metavar, help=text)


def with_lists(spec: ContainerSpec, given: Mapping[str, Any]) -> ContainerSpec:
    """The spec with the flags of LISTS of `run` or `create`. Raises InvalidArgument."""
    return _change({row.flag: given[_name(row.flag)] for row in LISTS}, {})(spec)


def changed(given: Mapping[str, Any]) -> Callable[[ContainerSpec], ContainerSpec]:
    """What the `-add` and `-rm` of LISTS change; files are read now. Raises InvalidArgument."""
    added = {row.flag: given[f"{_name(row.flag)}_add"] for row in LISTS}
    return _change(added, {row.flag: given[f"{_name(row.flag)}_rm"] for row in LISTS})


def _change(
    added: Mapping[str, Iterable[str]], removed: Mapping[str, Iterable[str]]
) -> Callable[[ContainerSpec], ContainerSpec]:
    mounts = dict(map(tmpfs.split, added["--tmpfs"]))
    devices = [parsed("--device", security.device, text) for text in added["--device"]]
    options = [_security_opt(text) for text in added["--security-opt"]]
    rules = added["--device-cgroup-rule"]

    def kept(flag: str, old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T]:
        gone = frozenset(removed.get(flag, ()))
        return {key: entry for key, entry in old.items() if key not in gone} | dict(new)

    def by_key(entries: Iterable[T], key: Callable[[T], str]) -> dict[str, T]:
        return {key(entry): entry for entry in entries}

    def change(spec: ContainerSpec) -> ContainerSpec:
        old = by_key(spec.devices, _inside), by_key(spec.security_opt, security.key)
        old_rules = by_key(spec.device_cgroup_rules, str)
        return replace(
            spec,
            tmpfs=kept("--tmpfs", spec.tmpfs, mounts),
            devices=tuple(kept("--device", old[0], by_key(devices, _inside)).values()),
            device_cgroup_rules=tuple(
                kept("--device-cgroup-rule", old_rules, by_key(rules, str)).values()
            ),
            security_opt=tuple(
                kept("--security-opt", old[1], by_key(options, security.key)).values()
            ),
        )

    return change


def _inside(device: Device) -> str:
    return device.path_in_container or device.path_on_host


def _security_opt(text: str) -> str:
    """The option as the spec has it: a file of a seccomp profile is replaced by its content."""
    name = security.key(text)
    value = text[len(name) + 1 :]
    if name != security.SECCOMP or value in ("", security.UNCONFINED, "builtin"):
        found = f"{name}={value}" if value else text
    else:
        found = f"{name}={_profile(value)}"
    parsed("--security-opt", lambda _: security.read((found,)), text)
    return found


def _profile(path: str) -> str:
    """The JSON of the file, without its blanks. Raises InvalidArgument."""
    import json

    text = f"{security.SECCOMP}={path}"
    try:
        with Path(path).open("rb") as opened:
            content = opened.read(4 * PROFILE_BYTES_MAX + 1)
    except OSError as error:
        raise invalid(
            "--security-opt", text, f"the profile cannot be read: {reason_of(error, named=path)}"
        ) from None
    if len(content) > 4 * PROFILE_BYTES_MAX:
        most = PROFILE_BYTES_MAX >> 8
        raise invalid("--security-opt", text, f"expected a profile of at most {most} KiB")
    try:
        return json.dumps(json.loads(content), separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise invalid("--security-opt", text, f"expected JSON in {quoted(path)}: {error}") from None


def _name(flag: str) -> str:
    return flag[2:].replace("-", "_")
