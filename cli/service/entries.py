"""Flags that may be given several times: their texts -> what a spec holds. PURE."""

from collections.abc import Iterable, Mapping

from pyswarm_core.constraints import parse_preference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import NetworkAttachment, Ulimit


def labels(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE`; a lone KEY has the empty value, as in Docker. Raises InvalidArgument."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise InvalidArgument(f"{flag} {text[:80]!r} is not valid: want KEY=VALUE")
        found[key] = value
    return found


def environment(
    texts: Iterable[str], files: Iterable[str], own: Mapping[str, str]
) -> tuple[str, ...]:
    """`NAME=VALUE` of the env files' lines, then of the flags; the later of one name wins.

    A lone NAME takes its value from `own`, and is left out if it has none there.
    """
    found: dict[str, str] = {}
    for text in (*files, *texts):
        name, equals, value = text.partition("=")
        if not name:
            raise InvalidArgument(f"--env {text[:80]!r} is not valid: want NAME=VALUE")
        if equals:
            found[name] = value
        elif name in own:
            found[name] = own[name]
    return tuple(f"{name}={value}" for name, value in found.items())


def env_lines(content: str) -> list[str]:
    """The lines of an env file that are no comments."""
    lines = (line.strip("\ufeff").lstrip() for line in content.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def preferences(texts: Iterable[str]) -> tuple[str, ...]:
    """`spread=node.labels.zone`. Raises InvalidArgument."""
    for text in texts:
        if not text.startswith("spread="):
            raise InvalidArgument(
                f"--placement-pref {text[:80]!r} is not valid: want spread=node.labels.NAME"
            )
    return tuple(map(parse_preference, texts))


def network(text: str) -> NetworkAttachment:
    """`NAME`, or `name=NAME,alias=A,alias=B,ip=ADDRESS`. Raises InvalidArgument."""
    if "=" not in text:
        return NetworkAttachment(target=text)
    target, aliases, ip = "", [], ""
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == "name":
            target = value
        elif key == "alias":
            aliases.append(value)
        elif key == "ip" and value:
            ip = value
        else:
            raise InvalidArgument(
                f"--network {text[:80]!r} is not valid: want NAME or"
                " name=NAME,alias=ALIAS,ip=ADDRESS"
            )
    if not target:
        raise InvalidArgument(f"--network {text[:80]!r} is not valid: it names no network")
    return NetworkAttachment(target=target, aliases=tuple(aliases), ip=ip)


def host(text: str) -> str:
    """`NAME:IP` (or `NAME=IP`) as a line of /etc/hosts: `IP NAME`. Raises InvalidArgument."""
    name, _, address = text.replace("=", ":", 1).partition(":")
    if not name or not address:
        raise InvalidArgument(f"--host {text[:80]!r} is not valid: want NAME:IP")
    return f"{address.strip('[]')} {name}"


def ulimit(text: str) -> Ulimit:
    """`nofile=1024:2048` or `nofile=1024`. Raises InvalidArgument."""
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError:
        raise InvalidArgument(
            f"--ulimit {text[:80]!r} is not valid: want NAME=SOFT[:HARD], as in nofile=1024:2048"
        ) from None
