"""The user's logins at registries, as docker, podman or skopeo wrote them. SHELL over their files.

Searched in skopeo's order. A file may name a helper that keeps the passwords; it is asked. What is
found goes to the controller only, never to a command line or to a terminal.
"""

import json
import os
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from pyswarm_core.docker.reference import DEFAULT_REGISTRY, Reference, parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import RegistryLogin, ServiceSpec

HELPER_TIMEOUT_S = 30.0
_HUB = ("https://index.docker.io/v1/", "index.docker.io", DEFAULT_REGISTRY)
"""How Docker Hub is called in such files."""
_TOKEN_USER = "<token>"
_NO_TOKENS = "log in with a user name and a password or access token instead"


def asked_for(flag: bool) -> Callable[[ServiceSpec], RegistryLogin | None]:
    """What `--with-registry-auth` finds for a service's image; nothing without the flag.

    Having no login is a warning, not an error, as the image may be public.
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
    """Where logins may be, for this environment."""
    if explicit := own.get("REGISTRY_AUTH_FILE"):
        return (Path(explicit),)
    home = Path(own.get("HOME") or Path.home())
    config = Path(own.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(own.get("DOCKER_CONFIG") or home / ".docker")
    runtime = own.get("XDG_RUNTIME_DIR")
    files = (config / "containers/auth.json", docker / "config.json")
    return (Path(runtime) / "containers/auth.json", *files) if runtime else files


def login_for(image: Reference, own: Mapping[str, str]) -> RegistryLogin | None:
    """The login for the image, from the first file that has one.

    Raises InvalidArgument for a file or a helper's answer that cannot be understood.
    """
    for path in auth_files(own):
        try:
            told = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"the logins in {path} cannot be read: {error}") from None
        if not isinstance(told, dict):
            raise InvalidArgument(f"the logins in {path} cannot be read: want a JSON object")
        for key in _keys(image):
            if found := _login(told, key, image.registry, path):
                return found
    return None


def _keys(image: Reference) -> Iterator[str]:
    """How a file may call the image's registry: containers' tools also name repositories in it."""
    parts = image.name.split("/")
    yield from ("/".join(parts[:count]) for count in range(len(parts), 1, -1))
    names = _HUB if image.registry == DEFAULT_REGISTRY else (image.registry,)
    yield from names
    for scheme in ("https", "http"):
        for end in ("", "/", "/v1/", "/v2/"):
            yield f"{scheme}://{image.registry}{end}"


def _login(told: dict[str, Any], key: str, registry: str, path: Path) -> RegistryLogin | None:
    auths = _object(told, "auths")
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
    helper = _object(told, "credHelpers").get(key)
    # Where docker keeps everything with a helper, an empty entry says that it has this one.
    if helper is None and key in auths:
        helper = told.get("credsStore")
    return _ask(str(helper), key, registry) if helper else None


def _object(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object of that key; an empty one if it is none."""
    found = told.get(key)
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


def _ask(helper: str, key: str, registry: str) -> RegistryLogin | None:
    """What `docker-credential-HELPER get` answers; None if it has no such login."""
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
        raise InvalidArgument(f"the login for {registry} is kept by {program}: {error}") from None
    if done.returncode:
        if "credentials not found" in done.stdout:
            return None
        why = " ".join((done.stderr or done.stdout).split())[:200]
        raise InvalidArgument(f"the login for {registry} is kept by {program}, which failed: {why}")
    try:
        answer = json.loads(done.stdout)
        user, password = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, LookupError, TypeError):
        want = "want a JSON object with Username and Secret"
        raise InvalidArgument(
            f"the login for {registry}: {program} gave no login: {want}"
        ) from None
    if user == _TOKEN_USER:
        raise InvalidArgument(f"the login for {registry} is an identity token: {_NO_TOKENS}")
    return RegistryLogin(registry=registry, username=user, password=password)
