"""What a context is, and which one a command line selects. PURE."""

import re
from collections.abc import Callable

import msgspec

from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.plaintext import is_utf8

DEFAULT = "default"
"""The context of this host's own controller. It is not stored."""
DEFAULT_HOST = "unix:///run/pyswarm/pyswarm.sock"
NAME_MAX = 63

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]*\Z")


class Material(msgspec.Struct, frozen=True):
    """What a context shows to a controller: a certificate with its key, or a token."""

    ca: str = ""
    """The fleet's root certificate, PEM."""
    cert: str = ""
    """The client's certificate, PEM."""
    key: str = ""
    """Its key, PEM."""
    token: str = ""
    """A user token."""

    def __repr__(self) -> str:
        """Without the key and the token, which would get into logs."""
        return "Material(...)"


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the CLI reaches a fleet."""

    name: str = DEFAULT
    host: str = DEFAULT_HOST
    """`unix:///path` or `HOST:PORT` of a controller."""
    description: str = ""
    playground: str = ""
    """Name of the playground; empty if the fleet is none."""
    material: Material = Material()
    renews_at: int = 0
    """When half of the life of its certificate is over, seconds since 1970; 0: not known yet."""

    @property
    def is_local(self) -> bool:
        """Whether its host is a Unix socket, which needs no credentials."""
        return is_socket(self.host)


class Given(msgspec.Struct, frozen=True):
    """What selects a context; empty: not given."""

    host_flag: str = ""
    context_flag: str = ""
    host_variable: str = ""
    context_variable: str = ""


class Selection(msgspec.Struct, frozen=True):
    """The context of this name, or a host; the current context if both are empty."""

    name: str = ""
    host: str = ""
    warning: str = ""


def select(given: Given) -> Selection:
    """As Docker's CLI: a flag, then PYSWARM_HOST, then PYSWARM_CONTEXT.

    Raises InvalidArgument if both flags are given.
    """
    if given.host_flag and given.context_flag:
        raise InvalidArgument("conflicting options: cannot specify both --host and --context")
    if given.context_flag:
        return Selection(name=given.context_flag)
    if given.host_flag:
        return Selection(host=given.host_flag)
    if given.host_variable and given.context_variable:
        return Selection(
            host=given.host_variable,
            warning=f"PYSWARM_HOST={given.host_variable} overrides"
            f" PYSWARM_CONTEXT={given.context_variable}: unset one of them",
        )
    return Selection(name=given.context_variable, host=given.host_variable)


def require_name(name: str) -> str:
    """The name of a context. Raises InvalidArgument."""
    if len(name) > NAME_MAX or not _NAME.match(name):
        expected = f"expected 1 to {NAME_MAX} letters, digits and -_.+, the first a letter or digit"
        raise invalid("CONTEXT", name, expected)
    return name


def is_socket(host: str) -> bool:
    """Whether the address is a Unix socket."""
    return host.startswith("unix:")


def checked(host: str, field: str = "--host") -> str:
    """The address as gRPC accepts it. Raises InvalidArgument."""
    target = host.removeprefix("tcp://")
    name, colon, port = target.rpartition(":")
    is_path = target.startswith("unix:///") and is_utf8(target)
    is_port = port.isascii() and port.isdecimal() and 0 < int(port[:9]) < 65536
    if is_path or (name and is_utf8(name) and colon and is_port):
        return target
    raise invalid(field, host, "expected unix:///PATH or HOST:PORT")


FILE_KEYS: tuple[str, ...] = ("ca", "cert", "key")
ENDPOINT_KEYS = ("host", *FILE_KEYS, "token", "skip-tls-verify")


def endpoint(flag: str, texts: tuple[str, ...], read: Callable[[str], str]) -> Context | None:
    """The host and material of `host=…,ca=…,cert=…,key=…,token=…`; None if the flag is not given.

    `read` reads the files that ca, cert, key and token name. Raises InvalidArgument.
    """
    if not texts:
        return None
    values = _pairs(flag, texts)
    if values.get("skip-tls-verify", "false").lower() not in ("false", "0", "f"):
        raise invalid(
            flag,
            f"skip-tls-verify={values['skip-tls-verify']}",
            "anybody who answers at the address would get the commands and their secrets; use"
            " ca=FILE, or token=TOKEN, which has the digest of the fleet's CA",
        )
    if "host" not in values:
        raise invalid(flag, ",".join(texts), "expected host=unix:///PATH or host=HOST:PORT in it")
    host = checked(values["host"], flag)
    material = {key: read(values[key]) for key in FILE_KEYS if key in values}
    if "token" in values:
        token = values["token"]
        material["token"] = (token if token.startswith("PYSW") else read(token)).strip()
    return Context(host=host, material=Material(**material))


def _pairs(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in ",".join(texts).split(","):
        key, equals, value = pair.partition("=")
        if key not in ENDPOINT_KEYS or not equals or not value:
            expected = f"expected KEY=VALUE with a key of {', '.join(ENDPOINT_KEYS)}"
            raise invalid(flag, pair.partition("=")[0] if key == "token" else pair, expected)
        if key in values:
            raise invalid(flag, key, "it is given twice")
        values[key] = value
    return values
