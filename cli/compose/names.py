"""The labels and names that Docker Compose gives to what a project has. PURE."""

from collections.abc import Iterable, Mapping, Sequence

from pyswarm_core.stacks import labels

PROJECT_LABEL = labels.PROJECT
SERVICE_LABEL = labels.SERVICE
ONEOFF_LABEL = "com.docker.compose.oneoff"
"""`True` of containers of `compose run`."""
PULLED_LABEL = "com.docker.compose.image"
"""Of a service: NAME:TAG@DIGEST, as `compose pull` found it."""
IMAGE_LABEL = labels.IMAGE


def of_project(name: str) -> str:
    """The filter of a project's objects."""
    return f"label={PROJECT_LABEL}={name}"


def container_name(project: str, service: str, index: int) -> str:
    """`shop-web-1`: the container of the service's first slot."""
    return f"{project}-{service}-{index}"


def is_oneoff(own: Mapping[str, str]) -> bool:
    """Whether it is a container of `compose run`."""
    return own.get(ONEOFF_LABEL, "").lower() == "true"


def ordered(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> Sequence[str]:
    """The names, each after those that it needs; otherwise in their order. Of a cycle, which only
    changes by hand can make, the order is that of the names.
    """
    wanted = dict.fromkeys(names)
    found: dict[str, None] = {}
    begun: dict[str, None] = {}
    waiting = list(reversed(wanted))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        first = [one for one in needs.get(name, ()) if one in wanted and one not in found]
        if not first or name in begun:
            found[name] = None
            continue
        begun[name] = None
        waiting += [name, *reversed(first)]
    return tuple(found)
