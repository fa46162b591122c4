"""The flags of `run` and `create` -> the spec of a service of mode container.

The flags become those of `service create`, whose parsers read them; what `docker run` reads
otherwise is here. An error names the flag that was typed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from cli.container.spec import options
from cli.container.spec.seconds import seconds
from cli.errors import parsed
from cli.service.create import spec_of as service_spec_of
from cli.service.spec.template import put, with_single
from pyswarm_core.docker import entries
from pyswarm_core.docker.containers import limits, restarts
from pyswarm_core.docker.containers.views import DEFAULT_NETWORK
from pyswarm_core.docker.isolation import cdi
from pyswarm_core.errors import InvalidArgument, as_flag, invalid
from pyswarm_core.ids import ID_LENGTH
from pyswarm_core.specs import (
    PREDEFINED_NETWORKS,
    ContainerMode,
    NetworkAttachment,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
)
from pyswarm_core.validation import Problem, service_problems
from pyswarm_core.validation import as_typed as as_typed_values
from pyswarm_core.validation.ranges import RANGES

_CONTAINER = "task_template.container_spec."
_LIMITS = "task_template.resources.limits."

TYPED_AS = {
    "--limit-cpu": "--cpus",
    "--limit-memory": "--memory",
    "--limit-pids": "--pids-limit",
    "--stop-grace-period": "--stop-timeout",
    "--host": "--add-host",
    "--container-label": "--label",
    "--group": "--group-add",
    "--restart-condition": "--restart",
    "--restart-max-attempts": "--restart",
}
"""Flags of `service create` -> those of `run` that set the same fields."""
RENAMED = {
    "cpus": "limit_cpu",
    "memory": "limit_memory",
    "add_host": "host",
    "group_add": "group",
    "label": "container_label",
}
"""Parameters of `run` -> those of `service create` with the same syntax."""
_EXPOSED = re.compile(r"(?P<ports>[0-9]{1,5}(?:-[0-9]{1,5})?)(?:/(?P<protocol>tcp|udp|sctp))?")
_FLAG = re.compile(r"--[a-z-]+(?=: )")


def spec_of(
    given: Mapping[str, Any], own: Mapping[str, str], label_lines: Sequence[str] = ()
) -> ServiceSpec:
    """The spec; `own` is the environment, `label_lines` the lines of `--label-file`.

    Raises InvalidArgument.
    """
    with as_typed():
        spec = service_spec_of(_as_service(given, label_lines), own)
        spec = replace(
            spec,
            labels=spec.task_template.container_spec.labels,
            mode=ContainerMode(auto_remove=given["auto_remove"], **_unless_stopped(given)),
        )
        spec = put(spec, "task_template.networks", networks_of(given))
        spec = put(spec, _CONTAINER + "open_stdin", given["interactive"])
        once = given["interactive"] and not given.get("detach")
        spec = put(spec, _CONTAINER + "stdin_once", once)
        spec = put(spec, _CONTAINER + "hostname", _hostname(given))
        spec = _with_entrypoint(spec, given)
        spec = _with_limits(spec, given)
        return put(spec, "task_template.restart_policy", _restart(given))


def updated(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """The spec after the flags of `docker update`. Raises InvalidArgument."""
    with as_typed():
        renamed = {RENAMED.get(name, name): value for name, value in given.items()}
        spec = with_single(spec, {**renamed, "memory_swap": None})
        spec = _with_limits(spec, {"stop_timeout": None, **given})
        if given["restart"] is None:
            return spec
        mode = spec.mode
        is_removed = isinstance(mode, ContainerMode) and mode.auto_remove
        policy = _restart({"restart": given["restart"], "auto_remove": is_removed})
        if isinstance(mode, ContainerMode):
            spec = replace(spec, mode=replace(mode, unless_stopped=bool(_unless_stopped(given))))
        else:  # the times are the service's own
            former = spec.task_template.restart_policy
            policy = replace(former, condition=policy.condition, max_attempts=policy.max_attempts)
        return put(spec, "task_template.restart_policy", policy)


@contextmanager
def as_typed() -> Iterator[None]:
    """Errors of the block name the flags of `run`."""
    try:
        yield
    except InvalidArgument as error:
        text = _FLAG.sub(lambda match: TYPED_AS.get(match[0], match[0]), str(error))
        raise InvalidArgument(text) from None


def _as_service(given: Mapping[str, Any], label_lines: Sequence[str]) -> dict[str, Any]:
    found = options.unset()
    found |= {name: value for name, value in given.items() if name in found}
    found |= {service: given[name] for name, service in RENAMED.items()}
    read_here = ("hostname", "entrypoint", "memory_swap", "stop_timeout", "ip")
    found |= {**dict.fromkeys(read_here), "label": ()}
    found["container_label"] = (*label_lines, *given["label"])
    if given["gpus"] is not None:
        found["device"] = (*given["device"], *parsed("--gpus", cdi.gpus, given["gpus"]))
    found["network"] = ()
    found["constraint"] = (*given["constraint"], *_placement(given))
    found["publish"] = (*given["publish"], *_exposed(given))
    found["args"] = given["args"]
    found["image"] = given["image"]
    return found


def label_lines(source: str, content: bytes) -> list[str]:
    """The lines of `--label-file`: KEY=VALUE, without comments. Raises InvalidArgument."""
    return [entry.text for entry in entries.env_lines(source, content)]


def problems(spec: ServiceSpec, given: Mapping[str, Any]) -> list[Problem]:
    """The problems of the spec, with the flags and the values that were typed."""
    renamed = [
        replace(problem, field=TYPED_AS.get(problem.field, problem.field))
        for problem in service_problems(spec)
    ]
    texts = {as_flag(name): text for name, text in given.items() if isinstance(text, str)}
    return as_typed_values(renamed, texts)


def _placement(given: Mapping[str, Any]) -> Iterable[str]:
    """The constraints of `--node` and `--platform`."""
    if node := given["node"]:
        key = "node.id" if len(node) == ID_LENGTH and node.isalnum() else "node.hostname"
        yield f"{key}=={node}"
    if platform := given["platform"]:
        yield from parsed("--platform", entries.platform, platform)


def _exposed(given: Mapping[str, Any]) -> Iterable[str]:
    """The ports of `--expose` that `-P` publishes; the controller adds those of the image."""
    for text in given["expose"]:
        match = _EXPOSED.fullmatch(text)
        if match is None:
            raise invalid("--expose", text, "expected PORT[-PORT][/PROTOCOL]")
        first, _, last = match["ports"].partition("-")
        if not 0 < int(first) <= int(last or first) <= 65535:
            raise invalid("--expose", text, "expected ports of 1 to 65535")
        if given["publish_all"]:
            for port in range(int(first), int(last or first) + 1):
                yield f"{port}/{match['protocol'] or 'tcp'}"


def networks_of(given: Mapping[str, Any]) -> tuple[NetworkAttachment, ...]:
    """The networks of `--network`, `--network-alias` and `--ip`; an address is the container's, not
    a virtual one. The network bridge alone is the same as none: the container is on its host's
    bridge, or on the ingress network if it publishes ports. Raises InvalidArgument.
    """
    found = []
    for text in given["network"]:
        if text.startswith("container:"):
            expected = (
                "expected a network: containers share no network namespace; give both --network"
                " NAME, and they find each other by name"
            )
            raise invalid("--network", text, expected)
        joined = entries.network(text)
        target = DEFAULT_NETWORK if joined.target == "default" else joined.target
        found.append(replace(joined, target=target, ip="", task_ip=joined.ip))
    if given["network_alias"] or given["ip"]:
        if not found or found[0].target in PREDEFINED_NETWORKS:
            flag = "--network-alias" if given["network_alias"] else "--ip"
            value = given["network_alias"][0] if given["network_alias"] else given["ip"]
            raise invalid(flag, value, "expected --network NAME of an overlay network as well")
        found[0] = replace(
            found[0],
            aliases=(*found[0].aliases, *given["network_alias"]),
            task_ip=given["ip"] or found[0].task_ip,
        )
    return () if found == [NetworkAttachment(target=DEFAULT_NETWORK)] else tuple(found)


def _hostname(given: Mapping[str, Any]) -> str:
    name, domain = given["hostname"] or "", given["domainname"] or ""
    if domain and not name:
        raise invalid("--domainname", domain, "expected --hostname NAME as well")
    return f"{name}.{domain}" if domain else name


def _with_entrypoint(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """As in Docker: one word, not a command line; an empty one leaves the arguments alone."""
    word = given["entrypoint"]
    if word is None:
        return spec
    words = (word,) if word else given["args"][:1]
    if not words:
        raise invalid("--entrypoint", word, "expected a COMMAND as well")
    spec = put(spec, _CONTAINER + "command", words)
    return put(spec, _CONTAINER + "args", given["args"] if word else given["args"][1:])


def _with_limits(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    if (text := given["pids_limit"]) is not None:
        number = 0 if text == "-1" else RANGES["--limit-pids"].read("--pids-limit", text)
        spec = put(spec, _LIMITS + "pids", number)
    if (text := given["stop_timeout"]) is not None:
        spec = put(spec, _CONTAINER + "stop_grace_period", seconds("--stop-timeout", text))
    if (text := given["memory_swap"]) is not None:
        memory = spec.task_template.resources.limits.memory_bytes
        spec = put(spec, "task_template.resources.swap_bytes", _swap(text, memory))
    return spec


def _swap(text: str, memory: int) -> int:
    """The swap alone; the flag has the sum of memory and swap."""
    both: int = RANGES["--memory-swap"].read("--memory-swap", text)
    return parsed("--memory-swap", lambda _: limits.swap_beyond(both, memory), text)


def _restart(given: Mapping[str, Any]) -> RestartPolicy:
    policy = restarts.policy(given["restart"] or "no")
    if given["auto_remove"] and policy.condition is not RestartCondition.NONE:
        raise InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    return policy


def _unless_stopped(given: Mapping[str, Any]) -> dict[str, bool]:
    return {"unless_stopped": True} if given["restart"] == "unless-stopped" else {}
