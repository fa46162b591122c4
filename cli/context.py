"""Which fleet the CLI talks to. SHELL over one small file.

In order: `--host`, the environment variable PYSWARM_HOST, the file that `swarm init` and
`playground up` write, and the socket a controller on this host listens on.
"""

import os
from pathlib import Path

import msgspec

DEFAULT_HOST = "unix:///run/pyswarm/pyswarm.sock"


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fleet as the CLI sees it."""

    host: str = DEFAULT_HOST
    """`unix:///path` or `HOST:PORT` of a controller."""
    registry: str = ""
    """Where built images go: HOST:PORT, reached without TLS."""
    netns: str = ""
    """The network namespace from which the registry is reached; empty is this one."""
    playground: str = ""
    """The playground it is, if it is one."""


def context_file() -> Path:
    """Where the current context is kept: per user, under XDG_CONFIG_HOME."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pyswarm" / "context.json"


def current(host: str | None = None) -> Context:
    """The context in force; `host` is the `--host` flag. A damaged file counts as none."""
    chosen = host or os.environ.get("PYSWARM_HOST")
    saved = _load()
    if chosen:
        return saved if saved.host == chosen else Context(host=chosen)
    return saved


def use(context: Context) -> None:
    """Make it the current context."""
    path = context_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(context))


def leave(host: str) -> None:
    """Forget the current context if it is that fleet."""
    if _load().host == host:
        context_file().unlink(missing_ok=True)


def _load() -> Context:
    try:
        return msgspec.json.decode(context_file().read_bytes(), type=Context)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return Context()
