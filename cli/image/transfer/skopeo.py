"""Runs skopeo for the user. SHELL.

What a registry answers is shown whole: an error has every word of it, on one line.
"""

import ipaddress
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.render.listing import one_line
from pyswarm_core.errors import PyswarmError, Unavailable
from pyswarm_core.plaintext import split_lines

_POLICY = Path("/etc/containers/policy.json")
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')


def run(arguments: Sequence[str], failure: str, *, shown: bool = False, given: str = "") -> None:
    """Run skopeo; `shown`: its progress goes to stderr. `given` is its standard input.

    Raises PyswarmError with `failure` and what it says.
    """
    if shutil.which("skopeo") is None:
        raise Unavailable("skopeo is not installed: apt-get install skopeo")
    policy = () if _POLICY.exists() else ("--insecure-policy",)
    done = subprocess.run(
        ["skopeo", *policy, *arguments],
        input=given.encode(),
        stdout=sys.stderr if shown and sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise PyswarmError(f"{failure}: {reason(done.stderr.decode(errors='replace'))}")


def reason(text: str) -> str:
    """What skopeo says, on one line; all of it, because the registry's own words may be in it."""
    found = _MESSAGE.findall(text)
    said = re.sub(r"\\(.)", r"\1", found[-1]) if found else " ".join(split_lines(text))
    return one_line(" ".join(said.split())) or "skopeo failed without a message"


def tls(registry: str, prefix: str) -> tuple[str, ...]:
    """As in Docker, a registry on loopback needs no TLS; others as registries.conf says."""
    host = registry.rpartition(":")[0] if not registry.endswith("]") else registry
    host = (host or registry).strip("[]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return (f"--{prefix}tls-verify=false",) if is_loopback else ()


def platform_flags(platform: str) -> tuple[str, ...]:
    """skopeo's global flags for OS[/ARCH[/VARIANT]]."""
    flags = ("--override-os", "--override-arch", "--override-variant")
    parts = platform.split("/") if platform else []
    return tuple(word for pair in zip(flags, parts, strict=False) for word in pair)


@contextmanager
def folder() -> Iterator[Path]:
    """A directory for what is on its way: large files, and logins that nobody else may read."""
    with tempfile.TemporaryDirectory(prefix="pyswarm-", dir="/var/tmp") as made:
        yield Path(made)
