"""Who may call what: one table of all RPCs, and the options that need the role admin. PURE.

`authorize` decides by the method alone. What a request asks for (its kind, its spec, the stacks of
the objects that it names) is decided by the same table in `controller/api/permissions.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from controller.identity.caller import Caller, CallerKind, Role
from pyswarm_core.docker.isolation import security
from pyswarm_core.docker.logdrivers import FORWARDED, driver_of
from pyswarm_core.errors import PermissionDenied, quoted, shown
from pyswarm_core.identity.users import STACK_LABEL as STACK_LABEL
from pyswarm_core.specs import NetworkSpec, ServiceSpec
from pyswarm_core.volumes.volume import VolumeSpec

T = TypeVar("T")

CONTROL = "/pyswarm.v1.Control/"
DISPATCHER = "/pyswarm.v1.Dispatcher/"
HEALTH = "/grpc.health.v1.Health/"


class Named(Enum):
    """What a request names, for users that are limited to stacks."""

    NOTHING = "nothing"
    """No object of a stack is concerned."""
    FLEET = "the fleet"
    """Objects that belong to no stack: users of a stack are refused."""
    LISTED = "lists"
    """The answer is a list, which shows a user of a stack the objects of its stacks."""
    SERVICE = "a service"
    TASK = "a task"
    SERVICE_OR_TASK = "a service or task"
    CONTAINERS = "services and tasks, by default those of a list"
    TARGET = "a task that runs, or the service of it"
    PROGRAM = "a task in which programs run, or ports are connected to, as it requests"
    """It needs the role admin if the task has an option that does, or the request asks for more."""
    CONTAINER = "a task that runs or has run, or a service"
    FILES = "the files of a container, which may be those of its host"
    """It needs the role admin if the task has an option that does."""
    NETWORK = "a network"
    OBJECT = "an object of a kind"
    NEW_SERVICE = "a new service"
    CHANGED_SERVICE = "a service and its new spec"
    EARLIER_SERVICE = "a service and one of its earlier specs"
    NEW_NETWORK = "a new network"
    NEW_VOLUME = "a new volume"
    VOLUME = "a volume"
    VOLUMES = "volumes"
    NEW_PAYLOAD = "a new secret or config"
    SECRET = "a secret"
    """It needs the role admin if a service that follows it has an option that does."""
    CONFIG = "a config"
    """As SECRET."""
    NEW_STACK = "a stack with all of its objects"
    EARLIER_STACK = "a stack and one of its earlier versions"
    STACK = "a stack"
    PATH = "two ends of a path"
    USER = "a user, by default the caller"
    """Of another user than the caller it needs the role admin."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call an RPC."""

    verb: str
    """What it does, for errors: `list services`."""
    callers: tuple[CallerKind, ...]
    role: Role | None = None
    """The least role of users."""
    of_kind: Mapping[str, Role] = MappingProxyType({})
    """Of requests that name a kind of objects, the least role where it is another one."""
    named: Named = Named.NOTHING


_USERS = (CallerKind.USER, CallerKind.ROOT)
_AGENTS = (CallerKind.AGENT,)
_ALL = tuple(CallerKind)


def _read(verb: str, named: Named, **of_kind: Role) -> Rule:
    return Rule(verb=verb, callers=_USERS, role=Role.VIEWER, named=named, of_kind=of_kind)


def _change(verb: str, named: Named, **of_kind: Role) -> Rule:
    return Rule(verb=verb, callers=_USERS, role=Role.OPERATOR, named=named, of_kind=of_kind)


def _admin(verb: str) -> Rule:
    return Rule(verb=verb, callers=_USERS, role=Role.ADMIN, named=Named.FLEET)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        f"{CONTROL}GetInfo": _read("read the fleet's settings", Named.NOTHING),
        f"{CONTROL}CreateService": _change("create services", Named.NEW_SERVICE),
        f"{CONTROL}UpdateService": _change("update services", Named.CHANGED_SERVICE),
        f"{CONTROL}RemoveService": _change("remove services", Named.SERVICE),
        f"{CONTROL}RollbackService": _change("roll back services", Named.EARLIER_SERVICE),
        f"{CONTROL}GetService": _read("read services", Named.SERVICE),
        f"{CONTROL}ListServices": _read("list services", Named.LISTED),
        f"{CONTROL}WatchService": _read("watch services", Named.SERVICE),
        f"{CONTROL}ListTasks": _read("list tasks", Named.LISTED),
        f"{CONTROL}ListContainers": _read("list containers", Named.LISTED),
        f"{CONTROL}GetContainer": _read("read containers", Named.CONTAINER),
        f"{CONTROL}Why": _read("explain services and tasks", Named.SERVICE_OR_TASK),
        f"{CONTROL}RestartTask": _change("restart tasks", Named.TASK),
        f"{CONTROL}TaskChecks": _read("read the checks of tasks", Named.TASK),
        f"{CONTROL}SignalTask": _change("signal tasks", Named.TASK),
        f"{CONTROL}Top": _change("list processes of containers", Named.TARGET),
        f"{CONTROL}Changes": _change("list changed files of containers", Named.CONTAINER),
        f"{CONTROL}PauseContainer": _change("pause containers", Named.TARGET),
        f"{CONTROL}UnpauseContainer": _change("unpause containers", Named.TARGET),
        f"{CONTROL}WaitContainer": _read("wait for containers", Named.CONTAINER),
        f"{CONTROL}CopyOut": _change("copy files out of containers", Named.FILES),
        f"{CONTROL}CopyIn": _change("copy files into containers", Named.FILES),
        f"{CONTROL}Export": _change("export containers", Named.FILES),
        f"{CONTROL}Exec": _change("execute commands in tasks", Named.PROGRAM),
        f"{CONTROL}Attach": _change("attach to tasks", Named.PROGRAM),
        f"{CONTROL}PortForward": _change("forward ports of tasks", Named.PROGRAM),
        f"{CONTROL}GetNode": _read("read nodes", Named.FLEET),
        f"{CONTROL}ListNodes": _read("list nodes", Named.FLEET),
        f"{CONTROL}UpdateNode": _admin("update nodes"),
        f"{CONTROL}RemoveNode": _admin("remove nodes"),
        f"{CONTROL}CreateNetwork": _change("create networks", Named.NEW_NETWORK),
        f"{CONTROL}GetNetwork": _read("read networks", Named.NETWORK),
        f"{CONTROL}TraceNetwork": _change("trace networks", Named.PATH),
        f"{CONTROL}CreateVolume": _change("create volumes", Named.NEW_VOLUME),
        f"{CONTROL}ReadVolume": _change("read the files of volumes", Named.VOLUME),
        f"{CONTROL}WriteVolume": _change("write files to volumes", Named.VOLUME),
        f"{CONTROL}MoveVolume": _change("move volumes", Named.VOLUMES),
        f"{CONTROL}CancelVolumeMove": _change("cancel moves of volumes", Named.VOLUMES),
        f"{CONTROL}GetVolumeMoves": _read("read moves of volumes", Named.VOLUMES),
        f"{CONTROL}ForgetVolume": _change("give up copies of volumes", Named.VOLUME),
        f"{CONTROL}CreateSecret": _change("create secrets", Named.NEW_PAYLOAD),
        f"{CONTROL}UpdateSecret": _change("update secrets", Named.SECRET),
        f"{CONTROL}CreateConfig": _change("create configs", Named.NEW_PAYLOAD),
        f"{CONTROL}UpdateConfig": _change("update configs", Named.CONFIG),
        f"{CONTROL}ApplyStack": _change("apply stacks", Named.NEW_STACK),
        f"{CONTROL}RollbackStack": _change("roll back stacks", Named.EARLIER_STACK),
        f"{CONTROL}RemoveStack": _change("remove stacks", Named.STACK),
        f"{CONTROL}GetObject": _read("read objects", Named.OBJECT, user=Role.ADMIN),
        f"{CONTROL}ListObjects": _read("list objects", Named.LISTED, user=Role.ADMIN),
        f"{CONTROL}RemoveObject": _change(
            "remove objects", Named.OBJECT, user=Role.ADMIN, node=Role.ADMIN
        ),
        f"{CONTROL}CreateUser": _admin("create users"),
        f"{CONTROL}UpdateUser": _admin("update users"),
        f"{CONTROL}CreateUserToken": _admin("create tokens of users"),
        f"{CONTROL}ListUserTokens": _admin("list tokens of users"),
        f"{CONTROL}RemoveUserToken": _admin("remove tokens of users"),
        f"{CONTROL}IssueUserCertificate": _read("issue certificates of users", Named.USER),
        f"{CONTROL}Events": _read("read events", Named.LISTED),
        f"{CONTROL}ListAudit": _admin("read the audit log"),
        f"{CONTROL}Logs": _read("read logs", Named.SERVICE_OR_TASK),
        f"{CONTROL}Stats": _read("read stats", Named.CONTAINERS),
        f"{CONTROL}ReadRegistry": _read("read the fleet's registry", Named.NOTHING),
        f"{CONTROL}WriteRegistry": _change("push to the fleet's registry", Named.NOTHING),
        f"{CONTROL}ListRegistry": _read("list the fleet's registry", Named.NOTHING),
        f"{CONTROL}GetRegistryUsage": _read("read the usage of the fleet's registry", Named.FLEET),
        f"{CONTROL}CollectRegistry": _change(
            "collect garbage of the fleet's registry", Named.FLEET
        ),
        f"{CONTROL}PullImage": _change("pull images", Named.NOTHING),
        f"{CONTROL}ListImages": _read("list images", Named.LISTED),
        f"{CONTROL}InspectImage": _read("read images", Named.LISTED),
        f"{CONTROL}RemoveImage": _change("remove images", Named.FLEET),
        f"{CONTROL}PruneImages": _change("remove unused images", Named.FLEET),
        f"{CONTROL}SaveImage": _change("save images", Named.FLEET),
        f"{CONTROL}PushImage": _change("push images of nodes", Named.FLEET),
        f"{CONTROL}BuildImage": _admin("build images on nodes"),
        f"{CONTROL}GetJoinToken": _admin("read the join token"),
        f"{CONTROL}GetScrapeToken": _admin("read the token for metrics"),
        f"{CONTROL}UpdateCluster": _admin("update the swarm"),
        f"{CONTROL}GetUnlockKey": _admin("read the unlock key"),
        f"{CONTROL}Unlock": _admin("unlock a controller"),
        f"{CONTROL}GetCa": _read("read the root certificate", Named.NOTHING),
        f"{CONTROL}RotateCa": _admin("rotate the CA"),
        f"{CONTROL}RotateJoinToken": _admin("rotate the join token"),
        f"{DISPATCHER}RenewCertificate": Rule(
            verb="renew the certificate of a node",
            callers=(CallerKind.AGENT, CallerKind.ANONYMOUS),
        ),
        f"{DISPATCHER}Join": Rule(verb="join the fleet", callers=(CallerKind.ANONYMOUS,)),
        f"{DISPATCHER}Leave": Rule(verb="drain the node that leaves", callers=_AGENTS),
        f"{DISPATCHER}Session": Rule(verb="open the session of a node", callers=_AGENTS),
        f"{DISPATCHER}Tunnel": Rule(verb="open the tunnel of a node", callers=_AGENTS),
        f"{DISPATCHER}FetchPayload": Rule(
            verb="fetch a secret or config of a node's task", callers=_AGENTS
        ),
        f"{HEALTH}Check": Rule(verb="check the health of this controller", callers=_ALL),
        f"{HEALTH}Watch": Rule(verb="watch the health of this controller", callers=_ALL),
    }
)
"""By full method. An RPC that is not here is refused; docs/security.md has the same table."""


def authorize(caller: Caller, method: str) -> Rule:
    """The rule of the method. Raises PermissionDenied unless it allows the caller."""
    rule = RULES.get(method)
    if rule is None:
        raise PermissionDenied(f"{title(caller)} may not call {quoted(method)}: no rule allows it")
    if caller.kind not in rule.callers:
        raise PermissionDenied(f"{title(caller)} may not {rule.verb}: {_callers(rule)}")
    if rule.role is not None:
        require_role(caller, rule.role, rule.verb)
    return rule


def require_role(caller: Caller, needed: Role, verb: str, why: str = "") -> None:
    """Raise PermissionDenied unless the caller has the role. `why` follows the verb."""
    if caller.role is None or not caller.role.includes(needed):
        reason = f"{why} and needs" if why else "that needs"
        raise PermissionDenied(f"{title(caller)} may not {verb}: {reason} the role {needed}")


def title(caller: Caller) -> str:
    """`user "ci" (operator, limited to stack web)`, for errors."""
    match caller.kind:
        case CallerKind.ANONYMOUS:
            return "a caller without an identity"
        case CallerKind.USER:
            words = [str(caller.role)] if caller.role else []
            if caller.stacks:
                words.append(f"limited to {stacks_of(caller)}")
            about = f" ({', '.join(words)})" if words else ""
            return f"user {quoted(caller.name)}{about}"
        case CallerKind.AGENT:
            return f"the agent of node {quoted(caller.name)}"
        case CallerKind.CONTROLLER:
            return "a controller"
        case CallerKind.ROOT:
            return "root"


def _callers(rule: Rule) -> str:
    if rule.callers == _AGENTS:
        return "only the agents of nodes may"
    if CallerKind.USER in rule.callers:
        return (
            f"that needs a user with the role {rule.role}, who identifies with a certificate or"
            " a token"
        )
    return "only hosts that join may"


# Options that need the role admin


class Condition(msgspec.Struct, Generic[T], frozen=True):
    """An option of a spec that needs the role admin, whatever the role of the RPC."""

    option: str
    """Its flag."""
    found: Callable[[T], Iterable[str]]
    """The values of a spec that need it."""
    why: str
    """What follows `that`."""


DEFAULT_CAPABILITIES = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP"
    " SETGID SETPCAP SETUID SYS_CHROOT".split()
)
"""Docker's defaults, which every container has: adding one of them gives it nothing."""
SAFE_SYSCTLS = frozenset(
    "kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports"
    " net.ipv4.ip_unprivileged_port_start net.ipv4.ping_group_range net.ipv4.tcp_fin_timeout"
    " net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_keepalive_time"
    " net.ipv4.tcp_rmem net.ipv4.tcp_syncookies net.ipv4.tcp_wmem".split()
)
"""Kubernetes' safe sysctls: isolated between containers, and without a cost for their host."""
POWER = "gives a container power over its host"


def _power(flag: str) -> Condition[ServiceSpec]:
    """The condition of a flag that `security.powers` finds."""
    return Condition(
        flag,
        lambda spec: [
            value
            for option, value in security.powers(spec.task_template.container_spec)
            if option == flag
        ],
        POWER,
    )


SERVICE_CONDITIONS: Sequence[Condition[ServiceSpec]] = (
    Condition(
        "--network",
        lambda spec: [one.target for one in spec.task_template.networks if one.target == "host"],
        POWER,
    ),
    Condition(
        "--allow-fleet-api",
        lambda spec: ["true"] if spec.task_template.allow_fleet_api else [],
        "gives a container access to the API of the controllers",
    ),
    Condition(
        "--cap-add",
        lambda spec: [
            name
            for name in spec.task_template.container_spec.capability_add
            if name.upper().removeprefix("CAP_") not in DEFAULT_CAPABILITIES
        ],
        POWER,
    ),
    Condition(
        "--sysctl",
        lambda spec: [
            name for name in spec.task_template.container_spec.sysctls if name not in SAFE_SYSCTLS
        ],
        POWER,
    ),
    Condition(
        "--oom-score-adj",
        lambda spec: [
            str(score) for score in (spec.task_template.container_spec.oom_score_adj,) if score < 0
        ],
        "makes the kernel end other processes of the host first",
    ),
    Condition(
        "--log-driver",
        lambda spec: [
            name for name in (driver_of(spec.task_template.log_driver),) if name in FORWARDED
        ],
        "has its host's root send the output to the host's log or to a server (json-file, local"
        " and none do not)",
    ),
    *map(_power, security.POWERS),
)
"""A new option that gives a container power over its host gets an entry here."""

NETWORK_CONDITIONS: Sequence[Condition[NetworkSpec]] = (
    Condition(
        "--ingress",
        lambda spec: ["true"] if spec.ingress else [],
        "changes how all published ports are reached",
    ),
)


VOLUME_CONDITIONS: Sequence[Condition[VolumeSpec]] = (
    Condition(
        "--opt",
        lambda spec: [spec.reaches_host] if spec.reaches_host else [],
        "shows files or a device of the host",
    ),
)


def require_conditions(
    caller: Caller, rule: Rule, spec: T, conditions: Sequence[Condition[T]]
) -> None:
    """Raise PermissionDenied naming the first option of the spec that the caller may not set."""
    for condition in conditions:
        for value in condition.found(spec):
            verb = f"{rule.verb} with {condition.option} {shown(value)}"
            require_role(caller, Role.ADMIN, verb, f"that {condition.why}")


# Stacks


def stacks_of(caller: Caller) -> str:
    """`stack web` or `stacks web, db`."""
    return f"stack{'s' if len(caller.stacks) > 1 else ''} {', '.join(caller.stacks)}"


def in_stacks(caller: Caller, labels: Mapping[str, str]) -> bool:
    """Whether the caller may see and change an object with these labels."""
    return not caller.stacks or labels.get(STACK_LABEL, "") in caller.stacks


def require_stack(caller: Caller, rule: Rule, what: str, labels: Mapping[str, str]) -> None:
    """Raise PermissionDenied unless the object, `service "db"`, is one of the caller's stacks."""
    if not in_stacks(caller, labels):
        raise PermissionDenied(
            f"{title(caller)} may not {rule.verb} outside {stacks_of(caller)}: {what} does not"
            " belong to it"
        )


def require_label(caller: Caller, rule: Rule, labels: Mapping[str, str]) -> None:
    """Raise PermissionDenied unless a new spec has the label of one of the caller's stacks."""
    if not in_stacks(caller, labels):
        value = labels.get(STACK_LABEL)
        has = f"has the label with the value {quoted(value)}" if value else "has no such label"
        raise PermissionDenied(
            f"{title(caller)} may not {rule.verb} outside {stacks_of(caller)}: expected the label"
            f" {STACK_LABEL}={caller.stacks[0]}; the spec {has}"
        )


def require_unlimited(caller: Caller, rule: Rule) -> None:
    """Raise PermissionDenied for a user of a stack: what is concerned belongs to no stack."""
    if caller.stacks:
        raise PermissionDenied(
            f"{title(caller)} may not {rule.verb}: they belong to no stack, and need a user that is"
            " not limited to stacks"
        )
