"""The user's registry logins, from the files of docker, podman and skopeo. SHELL.

The files are searched in skopeo's order. A file may name a credential helper, which is run. A login
is sent to the controller only, and is never printed or put on a command line.
"""

import json
import os
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from pyswarm_core.aio.system import home_directory
from pyswarm_core.docker.reference import DEFAULT_REGISTRY, Reference, parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import RegistryLogin, ServiceSpec

HELPER_TIMEOUT_S = 30.0
_HUB = ("https://index.docker.io/v1/", "index.docker.io", DEFAULT_REGISTRY)
"""Names of Docker Hub in such files."""
_TOKEN_USER = "<token>"
_NO_TOKENS = "log in with a user name and a password or access token instead"


def requested(flag: bool) -> Callable[[ServiceSpec], RegistryLogin | None]:
    """Finds the login for a service's image with `--with-registry-auth`; None without the flag.

    A missing login is a warning, not an error: the image may be public.
    """

    def find(spec: ServiceSpec) -> RegistryLogin | None:
        image = parse_reference(spec.task_template.container_spec.image)
        found = login_for(image, os.environ)
        if found is None:
            places = ", ".join(map(str, auth_files(os.environ)))
            click.echo(f"warning: no login for {image.registry} in {places}", err=True)
        return found

    return find if flag else lambda spec: None


def auth_files(own: Mapping[str, str]) -> tuple[Path, ...]:
    """The files that may have logins, for this environment."""
    if explicit := own.get("REGISTRY_AUTH_FILE"):
        return (Path(explicit),)
    home = Path(own.get("HOME") or home_directory())
    config = Path(own.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(own.get("DOCKER_CONFIG") or home / ".docker")
    runtime = own.get("XDG_RUNTIME_DIR")
    files = (config / "containers/auth.json", docker / "config.json")
    return (Path(runtime) / "containers/auth.json", *files) if runtime else files


def login_for(image: Reference, own: Mapping[str, str]) -> RegistryLogin | None:
    """The login for the image, from the first file that has one.

    Raises InvalidArgument for a file or a helper's answer that is not valid.
    """
    for path in auth_files(own):
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"the logins in {path} cannot be read: {error}") from None
        if not isinstance(document, dict):
            raise InvalidArgument(f"the logins in {path} cannot be read: expected a JSON object")
        for key in _keys(image):
            if found := _login(document, key, image.registry, path):
                return found
    return None


def _keys(image: Reference) -> Iterator[str]:
    """Keys for the image's registry in a file; podman and skopeo also use repositories as keys."""
    parts = image.name.split("/")
    yield from ("/".join(parts[:count]) for count in range(len(parts), 1, -1))
    yield from registry_keys(image.registry)


def registry_keys(registry: str) -> Iterator[str]:
    """Keys of a whole registry in a file, in the order in which they count."""
    yield from _HUB if registry == DEFAULT_REGISTRY else (registry,)
    for scheme in ("https", "http"):
        for end in ("", "/", "/v1/", "/v2/"):
            yield f"{scheme}://{registry}{end}"


def _login(document: dict[str, Any], key: str, registry: str, path: Path) -> RegistryLogin | None:
    auths = _object(document, "auths")
    entry = _object(auths, key)
    if entry.get("identitytoken"):
        raise InvalidArgument(
            f"the login for {registry} in {path} is an identity token: {_NO_TOKENS}"
        )
    if entry.get("auth"):
        return _unpacked(str(entry["auth"]), registry, path)
    if entry.get("username") and entry.get("password"):
        return RegistryLogin(
            registry=registry, username=str(entry["username"]), password=str(entry["password"])
        )
    helper = _object(document, "credHelpers").get(key)
    # With credsStore, docker writes an empty entry for each login that the helper stores.
    if helper is None and key in auths:
        helper = document.get("credsStore")
    return _run_helper(str(helper), key, registry) if helper else None


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object of that key; an empty one if it is missing or not an object."""
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _unpacked(auth: str, registry: str, path: Path) -> RegistryLogin:
    try:
        pair = b64decode(auth, validate=True).decode()
    except ValueError:
        pair = ""
    user, colon, password = pair.partition(":")
    if not colon:
        raise InvalidArgument(f"the login for {registry} in {path} is not USER:PASSWORD in base64")
    return RegistryLogin(registry=registry, username=user, password=password.rstrip("\0"))


def _run_helper(helper: str, key: str, registry: str) -> RegistryLogin | None:
    """Run `docker-credential-HELPER get`; None if it has no such login."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key,
            capture_output=True,
            text=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
    except (OSError, UnicodeError, subprocess.TimeoutExpired) as error:
        raise InvalidArgument(
            f"the login for {registry} cannot be read with {program}: {error}"
        ) from None
    if done.returncode:
        if "credentials not found" in done.stdout:
            return None
        why = " ".join((done.stderr or done.stdout).split())[:200]
        raise InvalidArgument(f"the login for {registry} cannot be read with {program}: {why}")
    try:
        answer = json.loads(done.stdout)
        user, password = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, LookupError, TypeError):
        expected = "expected a JSON object with Username and Secret"
        raise InvalidArgument(
            f"the login for {registry}: the answer of {program} is not valid: {expected}"
        ) from None
    if user == _TOKEN_USER:
        raise InvalidArgument(f"the login for {registry} is an identity token: {_NO_TOKENS}")
    return RegistryLogin(registry=registry, username=user, password=password)
