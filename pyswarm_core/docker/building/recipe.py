"""What `pyswarm build` was asked for, and buildah's command line for it. PURE."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, invalid

STDIN = "-"
NETWORKS = ("", "default", "host", "none")
SECRET_ID = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_SECRET = "expected id=NAME[,src=FILE] or id=NAME,env=VARIABLE"
_SECRET_KEYS = ("id", "src", "source", "env", "type")


class Recipe(NamedTuple):
    """The arguments of `build`."""

    context: str
    """A directory, or STDIN."""
    file: str = ""
    """The Dockerfile, or STDIN; empty: that of the context."""
    tags: tuple[Reference, ...] = ()
    build_args: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    secrets: tuple[str, ...] = ()
    """As buildah takes them."""
    platform: str = ""
    network: str = ""
    add_hosts: tuple[str, ...] = ()
    cache_from: str = ""
    cache_to: str = ""

    def given_args(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The values of `--build-arg`; a NAME alone takes that of the environment."""
        found = {}
        for text in self.build_args:
            name, equals, value = text.partition("=")
            if equals or name in environment:
                found[name] = value if equals else environment[name]
        return found


class Inputs(NamedTuple):
    """The files that buildah reads and writes."""

    directory: str
    dockerfile: str
    ignorefile: str
    iidfile: str
    policy: str
    registries: tuple[str, ...] = ()
    """Global flags about registries."""
    authfile: str = ""
    has_bases: bool = False
    """Base images are in the storage already."""


def words(recipe: Recipe, inputs: Inputs) -> list[str]:
    """The arguments of buildah."""
    # The OCI's format of images has no HEALTHCHECK. A failed step leaves no container with
    # --force-rm. Without --pull buildah asks the registry for base images that it has.
    found = [*inputs.registries, "build", "--format", "docker", "--layers", "--force-rm"]
    found += ["--isolation", "chroot"]
    # Without a network the base images are there already.
    is_complete = inputs.has_bases or recipe.network == "none"
    pull = "never" if is_complete else "always" if recipe.pull else "false"
    found += [f"--pull={pull}"]
    found += ["--signature-policy", inputs.policy, "--iidfile", inputs.iidfile]
    found += ["--file", inputs.dockerfile, "--ignorefile", inputs.ignorefile]
    found += ["--authfile", inputs.authfile] if inputs.authfile else []
    for flag, values in (
        ("--tag", [str(tag) for tag in recipe.tags]),
        ("--build-arg", recipe.build_args),
        ("--label", recipe.labels),
        ("--secret", recipe.secrets),
        ("--add-host", recipe.add_hosts),
        ("--cache-from", filter(None, [recipe.cache_from])),
        ("--cache-to", filter(None, [recipe.cache_to])),
        ("--target", filter(None, [recipe.target])),
        ("--platform", filter(None, [recipe.platform])),
    ):
        found += [f"{flag}={value}" for value in values]
    found += ["--no-cache"] if recipe.no_cache else []
    return [*found, inputs.directory]


COLLECTOR: Mapping[str, str] = {"GOGC": "1600", "GOMEMLIMIT": "256MiB"}
"""buildah's environment, where the caller's does not set it. Go's default collects a heap that has
doubled: of 4 MB that is often, and costs buildah up to half of its time. This one collects at
64 MB first, and keeps the heap below the limit as long as what is in use is.
"""
WITHOUT_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "build")
"""Precedes a command that has no network but loopback. Steps in a chroot have the network of
buildah.
"""


def secret(text: str) -> str:
    """A `--secret` of Docker as buildah takes it. buildah would take a variable of the secret's
    name in place of the file, unless the type is given.

    Raises InvalidArgument.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if key not in _SECRET_KEYS or not equals or not value:
            raise invalid("--secret", text, _SECRET)
        found[key] = value
    if "id" not in found or found.get("type", "file") not in ("file", "env"):
        raise invalid("--secret", text, _SECRET)
    name = found["id"]
    source = found.get("src", found.get("source", ""))
    if "env" in found or found.get("type") == "env":
        return f"id={name},type=env,env={found.get('env', source or name)}"
    return f"id={name},type=file,src={source or name}"


def secret_source(text: str) -> tuple[str, str]:
    """`("file", PATH)` or `("env", VARIABLE)` of a secret that `secret` made."""
    _, kind, source = text.split(",", 2)
    return kind.partition("=")[2], source.partition("=")[2]


def tag(text: str) -> Reference:
    """A name for the image. Raises InvalidArgument."""
    try:
        reference = parse_reference(text)
    except InvalidArgument as error:
        raise invalid("--tag", text, error.reason) from None
    if reference.digest:
        raise invalid("--tag", text, "expected a name without a digest")
    return reference


def platform(text: str) -> str:
    """OS/ARCH[/VARIANT]. Raises InvalidArgument."""
    if "," in text:
        raise invalid(
            "--platform", text, "expected one platform; build each one under a tag of its own"
        )
    parts = text.split("/")
    if text and not (2 <= len(parts) <= 3 and parts[0] == "linux" and all(parts)):
        raise invalid("--platform", text, "expected linux/ARCH[/VARIANT], as in linux/arm64")
    return text


def cache(flag: str, texts: Sequence[str]) -> str:
    """The one repository of `--cache-from` or `--cache-to`. Raises InvalidArgument."""
    if len(texts) > 1:
        raise invalid(flag, texts[1], "expected one repository; buildah takes no more")
    for text in texts:
        fields = dict(part.partition("=")[::2] for part in text.split(",")) if "=" in text else {}
        if fields and fields.get("type") != "registry":
            expected = "expected a repository, or type=registry,ref=REPOSITORY"
            raise invalid(flag, text, expected)
        name = fields.get("ref", "") if fields else text
        try:
            return parse_reference(name).name
        except InvalidArgument as error:
            raise invalid(flag, text, error.reason) from None
    return ""
