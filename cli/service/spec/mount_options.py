"""Docker's flags of mounts: one list for `run`, `create`, `service create` and `service update`.
SHELL: only by importing click.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from pyswarm_core.docker import mounts
from pyswarm_core.specs import ContainerSpec

F = TypeVar("F", bound=Callable[..., Any])


def lists(command: F) -> F:
    """Add `--mount` and `--volume` to `run` or `create`."""
    command = click.option(
        "-v", "--volume", multiple=True, metavar="[SOURCE:]PATH[:OPTIONS]",
        help="Bind mount a volume",
    )(command)  # fmt: skip
    return click.option(
        "--mount", multiple=True, metavar="MOUNT",
        help="Attach a filesystem mount: type=volume|bind|tmpfs,source=SOURCE,target=PATH,…",
    )(command)  # fmt: skip


def changes(command: F) -> F:
    """Add `--mount-add` and `--mount-rm` to `update`."""
    command = click.option(
        "--mount-rm", multiple=True, metavar="PATH", help="Remove a mount by its target path"
    )(command)
    return click.option(
        "--mount-add", multiple=True, metavar="MOUNT", help="Add or update a mount on a service"
    )(command)


def with_lists(spec: ContainerSpec, given: Mapping[str, Any]) -> ContainerSpec:
    """The spec with the mounts of `run` or `create`. Raises InvalidArgument."""
    return replace(spec, mounts=mounts.mounts(given["mount"], given["volume"]))


def changed(given: Mapping[str, Any]) -> Callable[[ContainerSpec], ContainerSpec]:
    """What `--mount-add` and `--mount-rm` change: an added mount replaces one with the same target.
    Raises InvalidArgument.
    """
    added = [mounts.mount(text, "--mount-add") for text in given["mount_add"]]
    gone = frozenset(map(_key, given["mount_rm"]))

    def change(spec: ContainerSpec) -> ContainerSpec:
        kept = {_key(one.target): one for one in spec.mounts if _key(one.target) not in gone}
        kept |= {_key(one.target): one for one in added}
        return replace(spec, mounts=tuple(kept.values()))

    return change


def tell(volumes: Iterable[str]) -> None:
    """Print what has no effect in the values of `--volume`."""
    for notice in mounts.notices(volumes):
        click.echo(f"notice: {notice}", err=True)


def _key(target: str) -> str:
    return target.rstrip("/") or "/"
