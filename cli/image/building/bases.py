"""Base images: in the fleet's registry first, then where their names point. SHELL.

buildah is given the fleet's registry as a mirror of the registries that the Dockerfile names, and
the logins of this user beside that of the command.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument

if TYPE_CHECKING:
    from cli.registry.opening import Endpoint

_HOST_FILE = Path("/etc/containers/registries.conf")


def references(images: Iterable[str]) -> tuple[Reference, ...]:
    """Those that are names of images; buildah reports the others."""
    found = []
    for image in images:
        with suppress(InvalidArgument):
            found.append(parse_reference(image))
    return tuple(found)


def missing(wanted: Iterable[Reference], images: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of the images is not in the storage."""
    there: set[str] = set()
    for image in images:
        names = image.get("names") or ()
        there.update(names)
        there.update(f"{name.rpartition(':')[0]}@{image.get('digest')}" for name in names)
    return any(one.canonical not in there for one in wanted)


def flags(wanted: Iterable[Reference], registry: "Endpoint", work: Path) -> list[str]:
    """buildah's flags, whose file is written to `work`."""
    import tomllib

    host: dict[str, Any] = {}
    with suppress(OSError, ValueError, AttributeError):
        host = tomllib.loads(_HOST_FILE.read_text())
    file = work / "registries.conf"
    file.write_text(mirrors(wanted, registry.address, host.get("registry", ())))
    return ["--registries-conf", str(file)]


def mirrors(
    wanted: Iterable[Reference], address: str, host: Iterable[Mapping[str, Any]] = ()
) -> str:
    """The configuration of registries: this host's own, with the fleet's registry as the first
    mirror of each that is wanted.
    """
    from pyswarm_core.registry.names import repository_of

    tables = {table.get("prefix", table.get("location", "")): dict(table) for table in host}
    for one in wanted:
        table = tables.setdefault(one.registry, {"location": one.registry})
        folder = repository_of(one).removesuffix(f"/{one.repository}")
        ours = {"location": f"{address}/{folder}", "insecure": True}
        others = [each for each in table.get("mirror", ()) if each != ours]
        table["mirror"] = [ours, *others]
    lines = ['unqualified-search-registries = ["docker.io"]', 'short-name-mode = "disabled"']
    for prefix, table in tables.items():
        lines += ["", "[[registry]]", *_pairs({"prefix": prefix, **table})]
        for mirror in table.get("mirror", ()):
            lines += ["[[registry.mirror]]", *_pairs(mirror)]
    return "\n".join([*lines, ""])


def _pairs(table: Mapping[str, Any]) -> list[str]:
    """The strings and switches of a table."""
    import json

    return [
        f"{key} = {json.dumps(value)}"
        for key, value in table.items()
        if isinstance(value, str | bool)
    ]


def logins(registry: "Endpoint", work: Path) -> Path:
    """A file with the login of this command and those of this user, from the files in which they
    count elsewhere too. Of a helper that keeps all logins of a file, those that the file names.
    """
    import json

    from cli.service.spec.logins import auth_files

    auths: dict[str, Any] = {}
    helpers: dict[str, Any] = {}
    for path in (*reversed(auth_files(os.environ)), registry.authfile):
        with suppress(OSError, ValueError, AttributeError):
            content = json.loads(path.read_text())
            own = content.get("auths") or {}
            kept = {key: content.get("credsStore") for key, entry in own.items() if not entry}
            for key in own:
                helpers.pop(key, None)
            auths.update(own)
            helpers.update({key: helper for key, helper in kept.items() if helper})
            helpers.update(content.get("credHelpers") or {})
    file = work / "auth.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": auths, "credHelpers": helpers}))
    return file
