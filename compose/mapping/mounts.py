"""`volumes` and `volumes_from` of services, and the volumes of a stack. PURE."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from compose.mapping.binds import Made, of_bind
from compose.mapping.scope import PYSWARM, Scope, Service
from compose.tree import Node, Path
from pyswarm_core.docker.mounts import recursion
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.stacks import labels
from pyswarm_core.volumes.drivers import LOCAL
from pyswarm_core.volumes.mounts import (
    BindOptions,
    ImageOptions,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)
from pyswarm_core.volumes.volume import VolumePlacement, VolumeSpec, default_placement


class Entry(NamedTuple):
    """An entry of `volumes`, of the service itself or of one in its `volumes_from`."""

    node: Node
    path: Path
    read_only: bool | None = None
    """What `volumes_from` says; None: the entry's own."""


def volumes(scope: Scope) -> Iterator[VolumeSpec]:
    """The volumes that the stack makes."""
    for key, node in scope.objects["volumes"].items():
        if node.get("external") is None:
            driver = node.text("driver") or LOCAL
            options = {name: value.value for name, value in node.items("driver_opts")}
            yield VolumeSpec(
                name=scope.named("volumes", key),
                driver=driver,
                driver_opts=options,
                labels=scope.labels(node.get("labels"), **{labels.VOLUME: key}),
                placement=_placement(scope, key, node) or default_placement(driver, options),
            )
    for upload in scope.uploads.values():
        yield VolumeSpec(name=upload.volume, labels=scope.labels())


def _placement(scope: Scope, key: str, node: Node) -> VolumePlacement | None:
    """`x-pyswarm: {placement: any}`, as `volume create --placement` has it."""
    written = scope.own_keys(node, ("volumes", key), "placement").get("placement")
    if written is None or written.value in list(VolumePlacement):
        return None if written is None else VolumePlacement(written.value)
    path = ("volumes", key, PYSWARM, "placement")
    scope.report.fault(written, path, "is not valid: expected pinned or any")
    return None


def mounts(service: Service) -> Made:
    """The mounts of a service, in the order of their targets, and configs that files became."""
    found = Made([], [])
    for entry in entries(service):
        _add(service, entry, found)
    return Made(sorted(found.mounts, key=lambda one: one.target), found.configs)


def entries(service: Service) -> list[Entry]:
    """Its own, then those of `volumes_from` at other targets."""
    own = [
        Entry(node, service.at("volumes", number))
        for number, node in enumerate(service.node.list("volumes"))
    ]
    targets = {entry.node.text("target") for entry in own}
    for number, node in enumerate(service.node.list("volumes_from")):
        name, _, mode = node.value.partition(":")
        if (other := service.scope.services.get(name)) is None:
            continue
        if mode not in ("", "ro", "rw"):
            text = f"{mode} is not valid: expected SERVICE, SERVICE:ro or SERVICE:rw"
            service.fault(node, ("volumes_from", number), text)
            continue
        for entry in entries(other):
            kind, target = entry.node.text("type"), entry.node.text("target")
            if target in targets or kind not in ("volume", "bind"):
                continue
            if kind == "volume" and not entry.node.text("source"):
                text = f"{name} has a volume without a name at {target}: give it a name to share it"
                service.fault(node, ("volumes_from", number), text)
                continue
            targets.add(target)
            own.append(entry._replace(read_only=True) if mode == "ro" else entry)
    return own


def _add(service: Service, entry: Entry, found: Made) -> None:
    node, path = entry.node, entry.path
    kind = node.text("type")
    read_only = _flag(node, "read_only") or bool(entry.read_only)
    if kind != "bind":
        service.scope.own_keys(node, path)
    base: dict[str, Any] = {"target": node.text("target"), "read_only": read_only}
    if kind == "bind":
        options = _bind_options(service, entry, read_only=read_only)
        mount = Mount(type=MountType.BIND, source=node.text("source"), bind_options=options, **base)
        of_bind(service, node, path, mount, found)
    elif kind == "volume":
        found.mounts.append(_of_volume(service, node, path, base))
    elif kind == "tmpfs":
        found.mounts.append(Mount(type=MountType.TMPFS, tmpfs_options=_tmpfs(node), **base))
    elif kind == "image":
        subpath = node.text("image", "subpath")
        options_of_image = ImageOptions(subpath=subpath) if subpath else None
        source = node.text("source")
        found.mounts.append(
            Mount(type=MountType.IMAGE, source=source, image_options=options_of_image, **base)
        )


def _flag(node: Node, *keys: str) -> bool:
    found = node.get(*keys)
    return found is not None and bool(found.value)


def _of_volume(service: Service, node: Node, path: Path, base: dict[str, Any]) -> Mount:
    key = node.text("source")
    if not key and not service.scope.options.is_stack:
        told = "the volume has no name, and goes with its task: give it a name to keep its data"
        service.scope.report.notice(node, path, told)
    options = VolumeOptions(
        no_copy=_flag(node, "volume", "nocopy"),
        labels={name: value.value for name, value in node.items("volume", "labels")},
        subpath=node.text("volume", "subpath"),
    )
    return Mount(
        source=service.scope.named("volumes", key) if key else "",
        volume_options=None if options == VolumeOptions() else options,
        **base,
    )


def _tmpfs(node: Node) -> TmpfsOptions | None:
    mode = node.get("tmpfs", "mode")
    found = TmpfsOptions(
        size_bytes=int(node.text("tmpfs", "size") or 0), mode=int(mode.value) if mode else 0
    )
    return None if found == TmpfsOptions() else found


def _bind_options(service: Service, entry: Entry, *, read_only: bool) -> BindOptions | None:
    bind = entry.node.get("bind")
    if bind is None:
        return None
    found = BindOptions(propagation=bind.text("propagation"))
    if (word := bind.get("recursive")) is not None:
        try:
            more = recursion(word.value, read_only=read_only, propagation=found.propagation)
            found = replace(found, **more)
        except InvalidArgument as error:
            at = (*entry.path, "bind", "recursive")
            service.scope.report.fault(word, at, f"{word.value} is not valid: {error.reason}")
    return None if found == BindOptions() else found
