"""The contexts of a user, in $XDG_CONFIG_HOME/pyswarm. SHELL.

    context                          the name of the current context; without it, `default`
    contexts/NAME/meta.json          the host, the description and what is no secret
    contexts/NAME/credentials.json   certificates, key, token

Directories have mode 0700, files 0600. A file is replaced by a rename, so that a reader never sees
half of one, and never a key with the certificate of another.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from cli.context.model import DEFAULT, DEFAULT_HOST, Context, Material, require_name
from pyswarm_core.aio.system import home_directory
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, quoted, reason_of

META = "meta.json"
CREDENTIALS = "credentials.json"
"""Material; a context without any has no such file."""
FILE_MAX = 256 << 10
"""Bytes of a file that is read into a context."""
_FORMER = "context.json"
"""The one file that earlier versions had."""


def directory() -> Path:
    """`pyswarm` in the user's XDG_CONFIG_HOME."""
    base = os.environ.get("XDG_CONFIG_HOME") or home_directory() / ".config"
    return Path(base) / "pyswarm"


def names() -> list[str]:
    """The names of all contexts, `default` first."""
    _convert_former()
    found = sorted(path.parent.name for path in (directory() / "contexts").glob(f"*/{META}"))
    return [DEFAULT, *(name for name in found if name != DEFAULT)]


def current_name() -> str:
    """The name of the current context; it may have been removed."""
    _convert_former()
    try:
        return (directory() / "context").read_text().strip() or DEFAULT
    except (FileNotFoundError, NotADirectoryError):
        return DEFAULT


def load(name: str) -> Context:
    """The context of that name. Raises NotFound, or InvalidArgument if its files are damaged."""
    _convert_former()
    if name == DEFAULT:
        return Context()
    folder = _folder(name)
    try:
        found = msgspec.json.decode((folder / META).read_bytes(), type=Context)
        material = _material(folder / CREDENTIALS)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"context {quoted(name)} does not exist: `pyswarm context ls`") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        text = reason_of(error) if isinstance(error, OSError) else str(error)
        raise InvalidArgument(
            f"context {quoted(name)} cannot be read ({text}): repair the files in {folder}, or"
            f" remove it with `pyswarm context rm -f {name}`"
        ) from None
    return msgspec.structs.replace(found, name=name, material=material)


def exists(name: str) -> bool:
    """Whether there is a context of that name, be it damaged."""
    return name == DEFAULT or (_folder(name) / META).exists()


def save(context: Context) -> None:
    """Store the context, in place of one with the same name. Raises Conflict for `default`."""
    if context.name == DEFAULT:
        raise Conflict('context "default" is this host\'s own controller and cannot be changed')
    folder = _folder(context.name)
    for path in (directory(), folder.parent, folder):
        path.mkdir(mode=0o700, parents=path == directory(), exist_ok=True)
    if context.material == Material():
        (folder / CREDENTIALS).unlink(missing_ok=True)
    else:
        _write(folder / CREDENTIALS, msgspec.json.encode(context.material))
    meta = msgspec.structs.replace(context, material=Material())
    _write(folder / META, msgspec.json.encode(meta))


def remove(name: str) -> None:
    """Remove the context; `default` becomes current if it was."""
    folder = _folder(name)
    for file in (META, CREDENTIALS):
        (folder / file).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
    if current_name() == name:
        (directory() / "context").unlink(missing_ok=True)


def use(name: str) -> None:
    """Make the context current."""
    _convert_former()
    path = directory() / "context"
    if name == DEFAULT:
        path.unlink(missing_ok=True)
        return
    _write(path, f"{name}\n".encode())


def activate(context: Context) -> None:
    """Store the context and make it current; this host's own controller is `default`."""
    if context == Context():
        use(DEFAULT)
        return
    save(context)
    use(context.name)


def of_host(host: str) -> Iterator[Context]:
    """The readable contexts with that host, the current one first."""
    current = current_name()
    for name in sorted(names(), key=lambda one: (one != current, one)):
        with suppress(NotFound, InvalidArgument):
            context = load(name)
            if context.host == host:
                yield context


def leave(host: str) -> None:
    """Remove the contexts of a fleet that no longer exists."""
    for context in list(of_host(host)):
        if context.name == DEFAULT:
            continue
        remove(context.name)


def _folder(name: str) -> Path:
    return directory() / "contexts" / require_name(name)


def _material(path: Path) -> Material:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Material)
    except FileNotFoundError:
        return Material()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _convert_former() -> None:
    """Store the one context of earlier versions under a name. A damaged file counts as absent."""
    former = directory() / _FORMER
    try:
        found = msgspec.json.decode(former.read_bytes(), type=Context)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return
    name = found.playground or (DEFAULT if found.host == DEFAULT_HOST else "fleet")
    if name != DEFAULT:
        save(msgspec.structs.replace(found, name=name))
    former.unlink(missing_ok=True)
    use(name)
