"""Where the secrets and configs of a task are, on the host and in its container. PURE.

Files below /run/secrets share one directory, which is bound as a whole: a rename in it is seen by
the container. Others are bound one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyswarm_core.payloads.references import SECRETS_DIRECTORY, ConfigReference, Reference
from pyswarm_core.specs import ContainerSpec

SHARED = "secrets"
"""The directory of the files below /run/secrets, in that of the task."""
STAGED = "staged"
"""The directory of files that are about to replace others, in that of the task."""
_OPTIONS = ("ro", "rprivate", "nosuid", "nodev")
_EXECUTE = 0o111


class TaskFile(NamedTuple):
    """One file of a task."""

    place: str
    """Relative to the directory of the task."""
    reference: Reference

    @property
    def target(self) -> str:
        """Its path in the container."""
        return self.reference.path

    @property
    def is_shared(self) -> bool:
        """Whether its directory is bound as a whole."""
        return self.place.startswith(f"{SHARED}/")

    @property
    def may_execute(self) -> bool:
        """Whether programs may execute it: a config whose mode says so, as in Docker."""
        is_config = isinstance(self.reference, ConfigReference) and not self.is_shared
        return is_config and bool(self.reference.file.mode & _EXECUTE)


class Write(NamedTuple):
    """A step of a swap: make this file, which no container sees."""

    place: str
    file: TaskFile
    data: bytes


class Rename(NamedTuple):
    """A step of a swap: this file becomes the one at `to`, at once."""

    place: str
    to: str


class Exposed(NamedTuple):
    """How a container has its secrets and configs."""

    mounts: tuple[dict[str, Any], ...] = ()
    """OCI mounts of files."""
    env: tuple[str, ...] = ()
    """NAME=VALUE. On the host it is in the container's config.json, below the run directory."""


class Content(NamedTuple):
    """What the controller sends of a version."""

    data: bytes
    is_template: bool = False


def kind_of(reference: Reference) -> str:
    """`secret` or `config`."""
    return "config" if isinstance(reference, ConfigReference) else "secret"


def versions_of(spec: ContainerSpec) -> Mapping[str, Reference]:
    """The versions that the container uses by id, each with the first reference to it."""
    return {one.id: one for one in reversed(spec.references)}


def files_of(spec: ContainerSpec) -> list[TaskFile]:
    """The files of the container."""
    found = []
    for number, reference in enumerate(spec.references):
        if reference.variable:
            continue
        inside = reference.path.removeprefix(f"{SECRETS_DIRECTORY}/")
        is_shared = inside != reference.path
        place = f"{SHARED}/{inside}" if is_shared else f"files/{number}"
        found.append(TaskFile(place, reference))
    return found


def swap_steps(different: Sequence[tuple[TaskFile, bytes]]) -> Iterator[Write | Rename]:
    """How the files are replaced by others: none before all are written."""
    staged = [(f"{STAGED}/{number}", one, data) for number, (one, data) in enumerate(different)]
    for place, one, data in staged:
        yield Write(place, one, data)
    for place, one, _ in staged:
        yield Rename(place, one.place)


def mounts_of(
    files: Sequence[TaskFile], directory: str, *, is_mapped: bool = False
) -> tuple[dict[str, Any], ...]:
    """The OCI mounts that show the files; `directory` is that of the task. Those of directories
    come first. `is_mapped`: the container has a user namespace, in which the files have the owners
    that their references name.
    """
    own = [
        _bind(
            f"{directory}/{one.place}",
            one.target,
            is_mapped=is_mapped,
            executes=one.may_execute,
        )
        for one in sorted(files, key=lambda one: one.target)
        if not one.is_shared
    ]
    if any(one.is_shared for one in files):
        shared = _bind(f"{directory}/{SHARED}", SECRETS_DIRECTORY, is_mapped=is_mapped)
        own.insert(0, shared)
    return tuple(own)


def _bind(source: str, target: str, *, is_mapped: bool, executes: bool = False) -> dict[str, Any]:
    """The tmpfs of the agent is mounted `noexec`, which `exec` takes from the bind alone."""
    execution = "exec" if executes else "noexec"
    options = ["bind", *_OPTIONS, execution, *(["idmap"] if is_mapped else [])]
    return {"destination": target, "type": "bind", "source": source, "options": options}
