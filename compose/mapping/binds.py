"""Binds of this host's files and directories. PURE but for `Files`.

A source that is written relatively, or that is in the project directory, means this host. A single
file becomes a config, which every node has. A directory with `x-pyswarm: {upload: true}` becomes a
volume into which the command line copies its files. Of others, tasks run on this host.
"""

import hashlib
import posixpath
import re
from typing import NamedTuple

from msgspec.structs import replace

from compose.mapping.mapped import LocalBind, Upload
from compose.mapping.scope import PYSWARM, Scope, Service
from compose.tree import Node, Path, shown_path
from pyswarm_core.errors import reason_of
from pyswarm_core.payloads.limits import CONFIG_BYTES_MAX, PAYLOAD_NAME_MAX
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.payloads.references import ConfigReference, FileTarget
from pyswarm_core.stacks.spec import StackPayload
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType

_ODD = re.compile(r"[^a-zA-Z0-9._-]+", re.ASCII)
_DIGITS = 8
_EXECUTABLE = 0o555


class Made(NamedTuple):
    """Mounts, and references to configs that files became."""

    mounts: list[Mount]
    configs: list[ConfigReference]


def of_bind(service: Service, node: Node, path: Path, mount: Mount, found: Made) -> None:
    """Add what a bind becomes."""
    own = service.scope.own_keys(node, path, "upload")
    uploads = own.get("upload")
    if uploads is not None and not isinstance(uploads.value, bool):
        text = "is not valid: expected true or false"
        service.scope.report.fault(uploads, (*path, PYSWARM, "upload"), text)
    is_upload = uploads is not None and uploads.value is True
    if not is_upload and not _is_local(service.scope, node):
        found.mounts.append(mount)
        return
    content = _content(service.scope, mount.source)
    if is_upload:
        _upload(service, (node, path), mount, found, is_directory=content is None)
    elif isinstance(content, bytes):
        found.configs.append(_config(service.scope, node, path, mount, content))
    else:
        found.mounts.append(_local(service, node, path, mount))


def _is_local(scope: Scope, node: Node) -> bool:
    """Whether a source means this host."""
    source = node.get("source")
    if source is None:
        return False
    if source.written.startswith((".", "~")):
        return True
    directory = scope.directory.rstrip("/")
    below = source.value == directory or source.value.startswith(f"{directory}/")
    return bool(directory) and below


def _content(scope: Scope, source: str) -> bytes | str | None:
    """The content of a file that fits into a config, None of a directory, or what else is there."""
    if source.endswith("/"):
        return None
    try:
        data = scope.files.read(source)
    except IsADirectoryError:
        return None
    except OSError as error:
        return reason_of(error, named=source)
    if not data:
        return "it is empty"
    if len(data) >= CONFIG_BYTES_MAX:
        return f"it has more than {CONFIG_BYTES_MAX // 1024 - 1} KiB"
    return data


def _local(service: Service, node: Node, path: Path, mount: Mount) -> Mount:
    """The bind, which is of this host."""
    source = node.get("source")
    written = (source.written if source is not None else "") or mount.source
    bind = LocalBind(mount.source, written, node.place, shown_path(path))
    service.local_binds.append(bind)
    created = node.get("bind", "create_host_path")
    if created is None or not created.value or service.scope.options.is_stack:
        return mount
    options = mount.bind_options or BindOptions()
    return replace(mount, bind_options=replace(options, create_mountpoint=True))


def _config(scope: Scope, node: Node, path: Path, mount: Mount, data: bytes) -> ConfigReference:
    name = _name(scope, mount.source)
    is_executable = scope.files.is_executable(mount.source)
    mode = _EXECUTABLE if is_executable else FileTarget(name="").mode
    scope.made_configs[name] = StackPayload(
        spec=PayloadSpec(name=name, labels=scope.labels()), data=data
    )
    shown = _relative(scope, mount.source)
    told = f"{shown} becomes config {name}: every node has it, and containers cannot write to it"
    scope.report.notice(node, path, told)
    return ConfigReference(config_name=name, file=FileTarget(name=mount.target, mode=mode))


def _upload(
    service: Service, where: tuple[Node, Path], mount: Mount, found: Made, *, is_directory: bool
) -> None:
    scope = service.scope
    if not is_directory:
        text = f"{mount.source} is no directory: upload copies a directory into a volume"
        scope.report.fault(*where, text)
        return
    name = _name(scope, mount.source)
    scope.uploads[name] = Upload(name, mount.source)
    found.mounts.append(replace(mount, type=MountType.VOLUME, source=name, bind_options=None))


def _relative(scope: Scope, source: str) -> str:
    return posixpath.relpath(source, scope.directory) if scope.directory else source


def _name(scope: Scope, source: str) -> str:
    """The name of what a path becomes: its last part, and a digest of the path in the project."""
    relative = _relative(scope, source)
    digest = hashlib.sha256(relative.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
    last = _ODD.sub("-", posixpath.basename(source)).strip("-._") or "files"
    room = PAYLOAD_NAME_MAX - len(scope.stack) - _DIGITS - 2
    return f"{scope.stack}_{last[: max(room, 1)].strip('-._')}-{digest}"
