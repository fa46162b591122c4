"""Networks, and how services join them. PURE."""

from collections.abc import Iterator, Mapping

from compose.mapping.scope import Scope, Service
from compose.tree import Node
from pyswarm_core.docker import networking
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import (
    BRIDGE_NETWORK,
    PREDEFINED_NETWORKS,
    Ipam,
    IpamConfig,
    NetworkAttachment,
    NetworkSpec,
)
from pyswarm_core.stacks import labels

_OPTIONS = ("encrypted", "mtu", networking.MTU, networking.BLOCK_METADATA)
"""The driver options that have an effect here."""


def networks(scope: Scope) -> Iterator[NetworkSpec]:
    """The networks that the stack makes."""
    for key, node in scope.objects["networks"].items():
        if node.get("external") is None:
            yield _network(scope, key, node)


def _network(scope: Scope, key: str, node: Node) -> NetworkSpec:
    options = _options(scope, key, node)
    pools = tuple(
        IpamConfig(
            subnet=block.text("subnet"),
            gateway=block.text("gateway"),
            ip_range=block.text("ip_range"),
        )
        for block in node.list("ipam", "config")
    )
    return NetworkSpec(
        name=scope.named("networks", key),
        driver=networking.driver(node.text("driver") or "overlay").name,
        labels=scope.labels(node.get("labels"), **{labels.NETWORK: key}),
        internal=_is_set(node, "internal"),
        attachable=_is_set(node, "attachable"),
        enable_ipv6=_is_set(node, "enable_ipv6"),
        ipam=Ipam(config=pools),
        mtu=options.mtu,
        encrypted=options.encrypted,
        block_metadata=options.block_metadata,
    )


def _is_set(node: Node, key: str) -> bool:
    found = node.get(key)
    return found is not None and bool(found.value)


def _options(scope: Scope, key: str, node: Node) -> networking.Options:
    texts = []
    for name, value in node.items("driver_opts"):
        path = ("networks", key, "driver_opts", name)
        text = f"{name}={value.value}"
        try:
            networking.options([text])
        except InvalidArgument as error:
            if name in _OPTIONS:
                scope.report.fault(value, path, f"{value.value} is not valid: {error.reason}")
            else:
                told = f"the option has no effect: {error.reason}"
                scope.report.notice(value, path, told)
        else:
            texts.append(text)
    return networking.options(texts)


def attachments(
    service: Service, aliases: Mapping[str, tuple[str, ...]]
) -> tuple[NetworkAttachment, ...]:
    """The networks that the service joins, by their full names, in this order. `aliases` are those
    of all its networks, by the network's key; the service's own name is one on each.
    """
    mode = service.value("network_mode")
    if mode is not None:
        target = BRIDGE_NETWORK if mode == "default" else mode
        own = () if target in PREDEFINED_NETWORKS else (service.short,)
        return (NetworkAttachment(target=target, aliases=own),)
    found = []
    for key, node in service.node.items("networks"):
        target = service.scope.named("networks", key)
        if target in PREDEFINED_NETWORKS:
            _tell_nameless(service, key, node, target)
            found.append(NetworkAttachment(target=target))
            continue
        written = tuple(one.value for one in node.list("aliases"))
        names = dict.fromkeys((*written, service.short, *aliases.get(key, ())))
        found.append(
            NetworkAttachment(target=target, aliases=tuple(names), ip=_address(service, key, node))
        )
    return tuple(sorted(found, key=lambda one: one.target))


def _tell_nameless(service: Service, key: str, node: Node, target: str) -> None:
    for name in ("aliases", "ipv4_address"):
        if (written := node.get(name)) is not None:
            told = f"the network {target} has no names and addresses of services: no effect"
            service.notice(written, ("networks", key, name), told)


def _address(service: Service, key: str, node: Node) -> str:
    written = node.get("ipv4_address")
    if written is None:
        return ""
    told = "it is the address of the service: its tasks have others, and it leads to all of them"
    service.notice(written, ("networks", key, "ipv4_address"), told)
    return str(written.value)


def joined(service: Service) -> tuple[str, ...]:
    """The keys of the networks on which a service has names."""
    if service.value("network_mode") is not None:
        return ()
    return tuple(
        key
        for key, _ in service.node.items("networks")
        if service.scope.named("networks", key) not in PREDEFINED_NETWORKS
    )


def further_aliases(scope: Scope) -> dict[str, dict[str, tuple[str, ...]]]:
    """Service -> key of a network -> aliases that `container_name` and `links` give it there."""
    found: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in scope.services}

    def add(short: str, key: str, alias: str) -> None:
        found[short][key] = (*found[short].get(key, ()), alias)

    for service in scope.services.values():
        if (name := service.value("container_name")) is not None:
            for key in joined(service):
                add(service.short, key, name)
        for number, link in enumerate(service.node.list("links")):
            other, _, alias = link.value.partition(":")
            if (target := scope.services.get(other)) is None:
                continue
            shared = [key for key in joined(target) if key in joined(service)]
            if not shared and joined(service):
                told = f"no network of the service has {other}: the link leads nowhere"
                service.notice(link, ("links", number), told)
            for key in shared if alias else ():
                add(other, key, alias)
    return found
