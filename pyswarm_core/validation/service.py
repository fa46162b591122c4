"""Validation of service specs. PURE.

The API checks whether networks exist and names are free.
"""

from collections.abc import Iterable

import msgspec

from pyswarm_core.constraints import check, parse_preference
from pyswarm_core.docker.reference import NAME_LENGTH_MAX as REGISTRY_LENGTH_MAX
from pyswarm_core.docker.units import format_duration, human_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import RESTARTS_REMEMBERED, SPEC_BYTES_MAX
from pyswarm_core.specs import (
    ContainerMode,
    Placement,
    RegistryLogin,
    ReplicatedMode,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    UpdateOrder,
)
from pyswarm_core.stacks.limits import DEPENDENCIES_MAX
from pyswarm_core.validation import text
from pyswarm_core.validation.checks import check_problems
from pyswarm_core.validation.container import container_problems, log_driver_problems
from pyswarm_core.validation.endpoint import PORTS_MAX, attachment_problems, endpoint_problems
from pyswarm_core.validation.isolation import isolation_problems
from pyswarm_core.validation.payloads.problems import reference_problems
from pyswarm_core.validation.problem import Problem, at_most, within
from pyswarm_core.validation.ranges import DURATION, DURATION_MAX, range_problems
from pyswarm_core.validation.resources import resources_problems
from pyswarm_core.validation.templates.problems import example, expands, template_problems
from pyswarm_core.validation.updates import update_problems
from pyswarm_core.validation.volumes import mount_problems
from pyswarm_core.volumes.volume import VolumePlacement

LOGIN_BYTES_MAX = 16 * 1024
"""Maximum for user and password each; tokens of cloud registries have up to 5 KiB."""
CONSTRAINTS_MAX = 64
CONSTRAINT_LENGTH_MAX = 512
PREFERENCES_MAX = 8


def service_problems(spec: ServiceSpec) -> list[Problem]:
    """The problems of the spec; empty if it may be stored."""
    if len(spec.endpoint_spec.ports) > PORTS_MAX:
        return list(at_most("--publish", spec.endpoint_spec.ports, PORTS_MAX))
    size = len(msgspec.msgpack.encode(spec))
    if size > SPEC_BYTES_MAX:
        most = human_size(SPEC_BYTES_MAX)
        expected = f"expected at most {most} of names, labels, environment and arguments"
        return [Problem("service", human_size(size), expected, "size")]
    if expands(spec):
        if problems := template_problems(spec):
            return problems
        spec = example(spec)
    template = spec.task_template
    return [
        *text.name_problems("--name", spec.name),
        *text.label_problems("--label", spec.labels),
        *_mode_problems(spec),
        *_one_replica_problems(spec),
        *container_problems(template.container_spec),
        *check_problems(template.container_spec, template.networks, spec.endpoint_spec.ports),
        *isolation_problems(template.container_spec, template.networks),
        *mount_problems(template.container_spec),
        *reference_problems(template.container_spec),
        *resources_problems(template.resources, template.container_spec, template.networks),
        *log_driver_problems(template.log_driver),
        *_restart_problems(template.restart_policy),
        *_placement_problems(template.placement, spec.mode),
        *attachment_problems(template.networks, is_container=spec.mode.is_container),
        *endpoint_problems(spec.endpoint_spec, template.networks),
        *update_problems(spec),
        *within("--force-update", template.force_update, 0, 2**32 - 1),
        *_dependency_problems(spec),
    ]


def _dependency_problems(spec: ServiceSpec) -> Iterable[Problem]:
    yield from at_most("depends_on", spec.depends_on, DEPENDENCIES_MAX)
    seen: dict[str, None] = {}
    for one in spec.depends_on[:DEPENDENCIES_MAX]:
        yield from text.name_problems("depends_on", one.service)
        if one.service == spec.name:
            expected = f"a service cannot depend on itself ({spec.name} → {spec.name})"
            yield Problem("depends_on", one.service, expected)
        if one.service in seen:
            yield Problem("depends_on", one.service, "expected each service once")
        seen[one.service] = None


def login_problems(login: RegistryLogin) -> list[Problem]:
    """The problems of a registry's login; a password is not quoted."""
    found = []
    if not text.is_word(login.registry) or len(login.registry) > REGISTRY_LENGTH_MAX:
        found.append(Problem("registry", login.registry, "expected HOST[:PORT]"))
    if not text.is_word(login.username) or ":" in login.username:
        found.append(Problem("username", login.username, "expected a name without space or colon"))
    if not login.password or not login.password.isprintable():
        found.append(Problem("password", "", "expected one line of printable characters"))
    if max(len(login.username.encode()), len(login.password.encode())) > LOGIN_BYTES_MAX:
        found.append(Problem("password", "", f"expected at most {human_size(LOGIN_BYTES_MAX)}"))
    return found


def _mode_problems(spec: ServiceSpec) -> Iterable[Problem]:
    if isinstance(spec.mode, ReplicatedMode):
        yield from range_problems("--replicas", spec.mode.replicas)
    if isinstance(spec.mode, ContainerMode):
        yield from _container_mode_problems(spec, spec.mode)


def _container_mode_problems(spec: ServiceSpec, mode: ContainerMode) -> Iterable[Problem]:
    condition = spec.task_template.restart_policy.condition
    if mode.auto_remove and condition is not RestartCondition.NONE:
        yield Problem("--restart", condition.value, "expected no with --rm")
    orders = {"--update-order": spec.update_config, "--rollback-order": spec.rollback_config}
    for flag, config in orders.items():
        if config.order is not UpdateOrder.STOP_FIRST:
            expected = "expected stop-first: one task at a time has a container's writable layer"
            yield Problem(flag, config.order.value, expected)


def _one_replica_problems(spec: ServiceSpec) -> Iterable[Problem]:
    """What two tasks cannot both have: an address, and on one bridge a MAC."""
    template = spec.task_template
    chosen = [("--ip", address) for address in template.task_ips.values()]
    if mac := template.container_spec.mac_address:
        chosen.append(("--mac-address", mac))
    for flag, value in chosen:
        if spec.mode.per_node or getattr(spec.mode, "replicas", 1) > 1:
            yield Problem(flag, value, "expected at most one replica, which alone can have it")
        for order_of, config in (
            ("update", spec.update_config),
            ("rollback", spec.rollback_config),
        ):
            if config.order is UpdateOrder.START_FIRST:
                expected = f"expected stop-first with {flag}, which two tasks cannot have at once"
                yield Problem(f"--{order_of}-order", config.order.value, expected)


def _restart_problems(policy: RestartPolicy) -> Iterable[Problem]:
    yield from range_problems("--restart-delay", policy.delay)
    yield from range_problems("--restart-window", policy.window)
    yield from range_problems("--restart-max-delay", policy.max_delay)
    if 0 < policy.max_delay < policy.delay:
        low, high = format_duration(policy.delay), format_duration(DURATION_MAX)
        expected = f"expected 0s, or {low} (--restart-delay) to {high}"
        value = DURATION.exact(policy.max_delay)
        yield Problem("--restart-max-delay", value, expected)
    if policy.window and policy.max_attempts > RESTARTS_REMEMBERED:
        expected = f"expected 0 to {RESTARTS_REMEMBERED} with --restart-window"
        yield Problem("--restart-max-attempts", policy.max_attempts, expected)
    else:
        yield from range_problems("--restart-max-attempts", policy.max_attempts)


def _placement_problems(placement: Placement, mode: ServiceMode) -> Iterable[Problem]:
    yield from at_most("--constraint", placement.constraints, CONSTRAINTS_MAX)
    yield from at_most("--placement-pref", placement.preferences, PREFERENCES_MAX)
    for constraint in placement.constraints[:CONSTRAINTS_MAX]:
        yield from _constraint_problems(constraint)
    for preference in placement.preferences:
        if not _is_preference(preference):
            expected = "expected node.labels.NAME or engine.labels.NAME"
            yield Problem("--placement-pref", preference, expected)
    yield from range_problems("--replicas-max-per-node", placement.max_replicas)
    if placement.volumes not in ("", *VolumePlacement):
        yield Problem("--volume-placement", placement.volumes, "expected pinned or any")
    if placement.max_replicas and not isinstance(mode, ReplicatedMode):
        expected = "expected --mode replicated as well"
        yield Problem("--replicas-max-per-node", placement.max_replicas, expected)


def _is_preference(key: str) -> bool:
    try:
        return len(key) <= CONSTRAINT_LENGTH_MAX and parse_preference(key) == key
    except InvalidArgument:
        return False


def _constraint_problems(constraint: str) -> Iterable[Problem]:
    if len(constraint) > CONSTRAINT_LENGTH_MAX or not constraint.isprintable():
        expected = f"expected at most {CONSTRAINT_LENGTH_MAX} printable characters"
        yield Problem("--constraint", constraint, expected)
        return
    try:
        check(constraint)
    except InvalidArgument as error:
        yield Problem("--constraint", constraint, error.reason)
