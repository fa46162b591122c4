"""The version of this build. SHELL: runs git in a checkout.

The build executes this file alone, so it imports no module of this package.
"""

import subprocess
from functools import cache
from pathlib import Path

_BASE = "0.1.0"
"""The next release, for commits without a tag before them."""
_GIT_TIMEOUT_S = 5.0
_HERE = Path(__file__).resolve().parent


@cache
def version() -> str:
    """A PEP 440 version: in a checkout from its newest tag `vX.Y.Z` and the commits since,
    otherwise from the build.
    """
    return _of_checkout() or _as_built() or _BASE


def _of_checkout() -> str:
    if not (_HERE.parent / ".git").exists():
        return ""
    described = _git("describe", "--tags", "--long", "--dirty", "--match", "v[0-9]*")
    if described:
        return from_description(described)
    count, commit = _git("rev-list", "--count", "HEAD"), _git("rev-parse", "--short", "HEAD")
    return f"{_BASE}.dev{count}+g{commit}" if count and commit else ""


def from_description(described: str) -> str:
    """`v1.2.3-4-gabc1234-dirty`, as git describes a commit, as a version: `1.2.4.dev4+gabc1234`.

    A commit after a tag gets the number of the next release, so that it sorts after the tag's.
    """
    plain = described.removesuffix("-dirty")
    dirty = ".dirty" if plain != described else ""
    tag, count, commit = plain.rsplit("-", 2)
    release = tag.removeprefix("v")
    if count == "0" and not dirty:
        return release
    head, _, last = release.rpartition(".")
    following = f"{head}.{int(last) + 1}" if last.isdecimal() and head else release
    return f"{following}.dev{count}+{commit}{dirty}"


def _git(*words: str) -> str:
    try:
        # The checkout may belong to another user: git executes nothing of it here.
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(_HERE.parent), *words],
            capture_output=True,
            check=False,
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _as_built() -> str:
    try:
        # Only the build writes it.
        lines = (_HERE / "_version.py").read_text().split("\n")
        return next(line.split('"')[1] for line in lines if line.startswith("VERSION = "))
    except (OSError, StopIteration, IndexError):
        pass
    from importlib import metadata  # which takes memory, and is seldom needed

    try:
        return metadata.version("pyswarm-scheduler")
    except metadata.PackageNotFoundError:
        return ""
