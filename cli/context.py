"""The fleet that the CLI connects to. SHELL over one file.

In order of precedence: `--host`, the environment variable PYSWARM_HOST, the file that `swarm init`
and `playground up` write, the socket of a controller on this host.
"""

import os
from pathlib import Path

import msgspec

DEFAULT_HOST = "unix:///run/pyswarm/pyswarm.sock"


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the CLI reaches a fleet."""

    host: str = DEFAULT_HOST
    """`unix:///path` or `HOST:PORT` of a controller."""
    registry: str = ""
    """HOST:PORT of the registry to which images are pushed, without TLS."""
    netns: str = ""
    """The network namespace from which the registry is reached; empty: the current one."""
    playground: str = ""
    """Name of the playground; empty if the fleet is none."""


def context_file() -> Path:
    """The file of the current context, in the user's XDG_CONFIG_HOME."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pyswarm" / "context.json"


def current(host: str | None = None) -> Context:
    """The selected context; `host` is the `--host` flag. A damaged file counts as absent."""
    chosen = host or os.environ.get("PYSWARM_HOST")
    saved = _load()
    if chosen:
        return saved if saved.host == chosen else Context(host=chosen)
    return saved


def use(context: Context) -> None:
    """Save it as the current context."""
    path = context_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(context))


def leave(host: str) -> None:
    """Remove the current context if it is that fleet's."""
    if _load().host == host:
        context_file().unlink(missing_ok=True)


def _load() -> Context:
    try:
        return msgspec.json.decode(context_file().read_bytes(), type=Context)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return Context()
