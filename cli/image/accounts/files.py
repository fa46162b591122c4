"""The user's file of logins, written as `docker login` does. SHELL.

A credential helper that the file names keeps the password; without one it is in the file.
"""

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.service.spec.logins import auth_files, registry_keys
from pyswarm_core.aio.system import home_directory
from pyswarm_core.docker.reference import DEFAULT_REGISTRY
from pyswarm_core.errors import InvalidArgument, PyswarmError

HELPER_TIMEOUT_S = 30.0
HUB_KEY = "https://index.docker.io/v1/"


def path_of(own: Mapping[str, str]) -> Path:
    """The file: that of REGISTRY_AUTH_FILE, else Docker's."""
    if explicit := own.get("REGISTRY_AUTH_FILE"):
        return Path(explicit)
    home = Path(own.get("HOME") or home_directory())
    return Path(own.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def read_before(own: Mapping[str, str]) -> tuple[Path, ...]:
    """The files whose logins count before those of that file: podman's and skopeo's."""
    path = path_of(own)
    return tuple(one for one in auth_files(own) if one != path)


def key_of(server: str) -> str:
    """The key of a registry in the file."""
    return HUB_KEY if server == DEFAULT_REGISTRY else server


def store(path: Path, server: str, username: str, password: str) -> str:
    """Store a login; returns the name of the helper that has it, empty if the file has it.

    Raises InvalidArgument for a file that cannot be read, PyswarmError if the helper fails.
    """
    document, key = _read(path), key_of(server)
    auths = document.setdefault("auths", {})
    helper = _helper(document, key)
    if helper:
        secret = {"ServerURL": key, "Username": username, "Secret": password}
        _run(helper, "store", json.dumps(secret))
        auths[key] = {}
    else:
        auths[key] = {"auth": b64encode(f"{username}:{password}".encode()).decode("ascii")}
    _write(path, document)
    return helper


def erase(path: Path, server: str) -> bool:
    """Remove a login; whether there was one. Raises as `store`."""
    document, key = _read(path), key_of(server)
    auths = document.get("auths") or {}
    keys = [one for one in registry_keys(server) if one in auths]
    helper = _helper(document, key)
    if helper and (keys or key in (document.get("credHelpers") or {})):
        _run(helper, "erase", key)
        keys = keys or [key]
    for one in keys:
        auths.pop(one, None)
    if keys:
        _write(path, document)
    return bool(keys)


def _helper(document: Mapping[str, Any], key: str) -> str:
    helpers = document.get("credHelpers")
    named = helpers.get(key) if isinstance(helpers, dict) else None
    return str(named or document.get("credsStore") or "")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text() or "{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"the logins in {path} cannot be read: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("auths", {}), dict):
        raise InvalidArgument(f"the logins in {path} cannot be read: expected a JSON object")
    return document


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file, which nobody else may read, whole or not at all. Raises InvalidArgument."""
    target = path.resolve()
    fresh = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise InvalidArgument(f"the logins in {path} cannot be written: {error}") from None
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file, indent="\t")
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _run(helper: str, action: str, given: str) -> None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action],
            input=given,
            capture_output=True,
            text=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PyswarmError(f"{program} {action} failed: {error}") from None
    if done.returncode:
        why = " ".join((done.stderr or done.stdout).split())[:200]
        raise PyswarmError(f"{program} {action} failed: {why}")
