"""`--X-add` and `--X-rm` of `service update`: changes of a spec's lists. PURE.

An added entry replaces one of the same key; removing an entry that does not exist is no error, as
in Docker.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from cli.service.spec.checks import with_checks
from cli.service.spec.template import put, replicas, with_replicas, with_single
from pyswarm_core.docker import entries, publishing
from pyswarm_core.docker.entries import Entry
from pyswarm_core.specs import ContainerSpec, DnsConfig, NetworkAttachment, Placement, ServiceSpec

T = TypeVar("T")
replace = msgspec.structs.replace


def updated(spec: ServiceSpec, given: Mapping[str, Any], own: Mapping[str, str]) -> ServiceSpec:
    """The spec after all flags of `service update` except networks, see `with_networks`.

    Raises InvalidArgument.
    """
    spec = with_checks(with_single(spec, given), given)
    spec = with_replicas(spec, replicas(given))
    if given["args"] is not None:
        spec = put(spec, "task_template.container_spec.args", entries.command(given["args"]))
    template = spec.task_template
    template = replace(
        template,
        container_spec=_container(template.container_spec, given, own),
        placement=_placement(template.placement, given),
        force_update=template.force_update + bool(given["force"]),
    )
    labels = _map(spec.labels, "--label-add", given["label_add"], given["label_rm"])
    endpoint = spec.endpoint_spec
    ports = publishing.published(endpoint.ports, given["publish_add"], given["publish_rm"])
    return replace(
        spec, labels=labels, task_template=template, endpoint_spec=replace(endpoint, ports=ports)
    )


def with_networks(
    spec: ServiceSpec, added: Iterable[NetworkAttachment], removed: Iterable[str]
) -> ServiceSpec:
    """The spec with networks added and removed, all given by id."""
    networks = merged(
        spec.task_template.networks, added, removed, lambda attachment: attachment.target
    )
    return put(spec, "task_template.networks", networks)


def merged(
    old: Iterable[T], added: Iterable[T], removed: Iterable[str], key: Callable[[T], str]
) -> tuple[T, ...]:
    """`old` without the removed entries, then the added ones; an added entry takes the place of one
    with the same key.
    """
    gone = frozenset(removed)
    found = {key(item): item for item in old if key(item) not in gone}
    found.update((key(item), item) for item in added)
    return tuple(found.values())


def _container(
    spec: ContainerSpec, given: Mapping[str, Any], own: Mapping[str, str]
) -> ContainerSpec:
    added_env = entries.environment((Entry("--env-add", text) for text in given["env_add"]), own)
    ulimits = map(entries.ulimit, given["ulimit_add"])
    return replace(
        spec,
        env=merged(spec.env, added_env, given["env_rm"], lambda text: text.partition("=")[0]),
        groups=merged(spec.groups, given["group_add"], given["group_rm"], str),
        ulimits=merged(spec.ulimits, ulimits, given["ulimit_rm"], lambda ulimit: ulimit.name),
        labels=_map(
            spec.labels,
            "--container-label-add",
            given["container_label_add"],
            given["container_label_rm"],
        ),
        sysctls=_map(spec.sysctls, "--sysctl-add", given["sysctl_add"], given["sysctl_rm"]),
        hosts=_hosts(spec.hosts, given["host_add"], given["host_rm"]),
        dns_config=_dns(spec.dns_config, given),
        capability_add=_capabilities(spec.capability_add, given["cap_add"], given["cap_drop"]),
        capability_drop=_capabilities(spec.capability_drop, given["cap_drop"], given["cap_add"]),
    )


def _dns(config: DnsConfig, given: Mapping[str, Any]) -> DnsConfig:
    return DnsConfig(
        nameservers=merged(config.nameservers, given["dns_add"], given["dns_rm"], str),
        search=merged(config.search, given["dns_search_add"], given["dns_search_rm"], str),
        options=merged(config.options, given["dns_option_add"], given["dns_option_rm"], str),
    )


def _hosts(old: Iterable[str], added: Iterable[str], removed: Sequence[str]) -> tuple[str, ...]:
    """Lines of /etc/hosts; removing a name alone removes every line of that name."""
    lines = [entries.host(text) for text in removed if ":" in text or "=" in text]
    names = frozenset(text for text in removed if ":" not in text and "=" not in text)
    kept = [line for line in old if not names.intersection(line.split(" ")[1:])]
    return merged(kept, map(entries.host, added), lines, str)


def _placement(placement: Placement, given: Mapping[str, Any]) -> Placement:
    preferences = entries.preferences(given["placement_pref_add"])
    dropped = entries.preferences(given["placement_pref_rm"])
    return replace(
        placement,
        constraints=merged(
            placement.constraints, given["constraint_add"], given["constraint_rm"], str
        ),
        preferences=merged(placement.preferences, preferences, dropped, str),
    )


def _capabilities(
    old: Iterable[str], added: Iterable[str], other: Iterable[str]
) -> tuple[str, ...]:
    """A capability added to one list is removed from the other."""
    return merged(old, added, (_capability(name) for name in other), _capability)


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _map(
    old: Mapping[str, str], flag: str, added: Iterable[str], removed: Iterable[str]
) -> dict[str, str]:
    gone = frozenset(removed)
    kept = {key: value for key, value in old.items() if key not in gone}
    return {**kept, **entries.labels(flag, added)}
