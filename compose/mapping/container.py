"""How a service's container runs: keys -> fields of ContainerSpec. PURE."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from compose.mapping.scope import Service
from compose.tree import Node
from pyswarm_core.docker import checks, entries
from pyswarm_core.docker.isolation import tmpfs
from pyswarm_core.docker.units import parse_duration, parse_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import DnsConfig, HealthConfig, LogDriver, Ulimit
from pyswarm_core.stacks import labels

ALL = "ALL"
_OPEN = '{{"{{"}}'
"""A template that gives two braces."""


def _value(node: Node) -> Any:
    return node.value


def _texts(node: Node) -> tuple[str, ...]:
    return tuple(one.value for one in node.value)


def _map(node: Node) -> dict[str, str]:
    return {key: child.value for key, child in node.items()}


def _size(node: Node) -> int:
    return parse_size(node.value)


def _ulimits(node: Node) -> tuple[Ulimit, ...]:
    """In the order of their names, as Docker's stack has them."""
    found = []
    for name, limit in sorted(node.items()):
        soft = hard = limit.value
        if limit.is_map:
            soft, hard = limit.value["soft"].value, limit.value["hard"].value
        found.append(Ulimit(name=name, soft=soft, hard=hard))
    return tuple(found)


def _hosts(node: Node) -> tuple[str, ...]:
    return tuple(entries.host(text) for text in _texts(node))


SIMPLE: Mapping[str, tuple[str, Callable[[Node], Any]]] = {
    "annotations": ("annotations", _map),
    "cgroup": ("cgroupns_mode", _value),
    "device_cgroup_rules": ("device_cgroup_rules", _texts),
    "extra_hosts": ("hosts", _hosts),
    "group_add": ("groups", _texts),
    "init": ("init", _value),
    "ipc": ("ipc_mode", _value),
    "oom_score_adj": ("oom_score_adj", _value),
    "pid": ("pid_mode", _value),
    "privileged": ("privileged", _value),
    "read_only": ("read_only", _value),
    "shm_size": ("shm_size", _size),
    "stdin_open": ("open_stdin", _value),
    "stop_grace_period": ("stop_grace_period", lambda node: parse_duration(node.value)),
    "stop_signal": ("stop_signal", _value),
    "sysctls": ("sysctls", _map),
    "tty": ("tty", _value),
    "ulimits": ("ulimits", _ulimits),
    "user": ("user", _value),
    "userns_mode": ("userns_mode", _value),
    "uts": ("uts_mode", _value),
    "working_dir": ("dir", _value),
}
"""Key -> field of ContainerSpec, and what makes its value."""


def container(service: Service) -> dict[str, Any]:
    """The fields of the service's ContainerSpec that the keys here give."""
    found: dict[str, Any] = {}
    for key, (field, read) in SIMPLE.items():
        if (node := service.get(key)) is None:
            continue
        try:
            found[field] = read(node)
        except InvalidArgument as error:
            service.fault(node, (key,), error.reason or str(error))
    found |= _commands(service) | capabilities(service) | _names(service)
    found |= {
        "env": _environment(service),
        "labels": _labels(service),
        "dns_config": DnsConfig(
            nameservers=service.texts("dns"),
            search=service.texts("dns_search"),
            options=service.texts("dns_opt"),
        ),
        "healthcheck": _healthcheck(service),
        "tmpfs": _tmpfs(service.texts("tmpfs")),
    }
    return found


def _commands(service: Service) -> dict[str, Any]:
    """`entrypoint` and `command`. As for `run`, an empty entrypoint takes away the image's: the
    program is the first word of the command.
    """
    entrypoint, command = service.get("entrypoint"), service.get("command")
    words, program = service.texts("command"), service.texts("entrypoint")
    if entrypoint is not None and not any(program):
        if not words:
            text = "it is empty, and takes away the image's: expected a command as well"
            service.fault(entrypoint, ("entrypoint",), text)
        return {"command": words[:1], "args": words[1:]}
    if command is not None and not words and not program:
        told = "it is empty: the image's command counts, as a container has one"
        service.notice(command, ("command",), told)
    return {"command": program, "args": words}


def _environment(service: Service) -> tuple[str, ...]:
    """Sorted, as Docker's stack sends them. A variable without a value takes away the image's."""
    found = []
    for name, node in sorted((service.get("environment") or service.node.at({})).items()):
        found.append(name if node.value is None else f"{name}={_literal(service, node.value)}")
    return tuple(found)


def _literal(service: Service, text: str) -> str:
    """Only Docker's stacks have templates: for Compose, braces are text."""
    return text if service.scope.options.is_stack else text.replace("{{", _OPEN)


def _names(service: Service) -> dict[str, Any]:
    """The hostname with its domain, as `--domainname` has it; a domain alone is the kernel's."""
    name, domain = service.value("hostname") or "", service.value("domainname") or ""
    if name or not domain:
        return {"hostname": f"{name}.{domain}" if domain else name}
    sysctls = service.get("sysctls")
    return {"sysctls": {"kernel.domainname": domain, **(_map(sysctls) if sysctls else {})}}


def _labels(service: Service) -> dict[str, str]:
    return service.scope.labels(service.get("labels"), **{labels.SERVICE: service.short})


def capabilities(service: Service) -> dict[str, Any]:
    """Both lists in their normal form: adding one has precedence over dropping it."""
    added, dropped = (_capabilities(service.texts(key)) for key in ("cap_add", "cap_drop"))
    return {
        "capability_add": added,
        "capability_drop": tuple(name for name in dropped if name not in added),
    }


def _capabilities(names: Iterable[str]) -> tuple[str, ...]:
    """With CAP_ before each, sorted; ALL alone."""
    words = [name.upper().removeprefix("CAP_") for name in names]
    return (ALL,) if ALL in words else tuple(f"CAP_{word}" for word in sorted(dict.fromkeys(words)))


def _healthcheck(service: Service) -> HealthConfig:
    node = service.get("healthcheck")
    if node is None:
        return HealthConfig()
    if service.value("healthcheck", "disable"):
        return HealthConfig(test=(checks.NONE,))
    durations = {
        name: service.parsed(("healthcheck", name), parse_duration) or 0
        for name in checks.DURATIONS
    }
    return HealthConfig(
        test=service.texts("healthcheck", "test"),
        retries=service.value("healthcheck", "retries") or 0,
        **durations,
    )


def _tmpfs(lines: Iterable[str]) -> dict[str, str]:
    return dict(map(tmpfs.split, lines))


def log_driver(service: Service) -> LogDriver:
    """The driver of `logging`; empty: the default one."""
    options = service.get("logging", "options")
    return LogDriver(
        name=service.value("logging", "driver") or "", options=_map(options) if options else {}
    )
