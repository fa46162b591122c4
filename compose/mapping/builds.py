"""`build` of services. PURE."""

from typing import Any

from compose.mapping.container import SIMPLE
from compose.mapping.mapped import Build
from compose.mapping.scope import Service
from compose.tree import Node


def image_of(service: Service) -> str:
    """The image; of a service that only has a build, the name that its build gives it."""
    return str(service.value("image") or f"{service.scope.stack}-{service.short}")


def build(service: Service) -> Build | None:
    """How the image is built; None if it is not."""
    node = service.get("build")
    if node is None:
        return None
    if not service.scope.options.builds:
        if service.get("image") is None:
            service.fault(node, ("build",), "the service has no image: expected one, or --build")
        else:
            told = "the image is not built: --build builds and pushes it"
            service.notice(node, ("build",), told)
        return None
    ulimits = node.get("ulimits")
    return Build(
        image=image_of(service),
        context=node.text("context"),
        dockerfile="" if node.text("dockerfile_inline") else node.text("dockerfile"),
        dockerfile_inline=node.text("dockerfile_inline"),
        target=node.text("target"),
        args=_map(node, "args"),
        labels=_map(node, "labels"),
        tags=_texts(node, "tags"),
        platforms=_texts(node, "platforms") or _texts_of(service.value("platform")),
        cache_from=_texts(node, "cache_from"),
        cache_to=_texts(node, "cache_to"),
        network=node.text("network"),
        no_cache=_flag(node, "no_cache"),
        pull=_flag(node, "pull"),
        privileged=_flag(node, "privileged"),
        extra_hosts=_texts(node, "extra_hosts"),
        shm_size=int(node.text("shm_size") or 0),
        ulimits=SIMPLE["ulimits"][1](ulimits) if ulimits is not None else (),
    )


def _texts_of(value: Any) -> tuple[str, ...]:
    return (str(value),) if value else ()


def _map(node: Node, key: str) -> dict[str, str]:
    return {name: value.value for name, value in node.items(key)}


def _texts(node: Node, key: str) -> tuple[str, ...]:
    return tuple(one.value for one in node.list(key))


def _flag(node: Node, key: str) -> bool:
    found = node.get(key)
    return found is not None and bool(found.value)
