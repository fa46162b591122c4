"""A service. PURE."""

from typing import Any

from compose.forms.base import Form, Merge, Rule
from compose.forms.entries import (
    CONFIGS,
    DEPENDS_ON,
    DEVICES,
    ENV_FILES,
    SECRETS,
    ULIMITS,
    Gpus,
    Hosts,
    requests,
)
from compose.forms.lists import Listing
from compose.forms.maps import LABELS, OPTIONS, VARIABLES, Entries, Key, Table, bare
from compose.forms.mounts import MOUNTS
from compose.forms.ports import PORTS
from compose.forms.scalars import (
    DURATION_OR_ZERO,
    RATE,
    SIZE,
    TEXT,
    WORDS,
    Bool,
    Command,
    FilePath,
    HealthTest,
    Number,
    Text,
    TextOrNumber,
    Word,
)
from compose.keys.build import BUILD
from compose.keys.deploy import CPUS, DEPLOY
from compose.reading import Reading
from compose.tree import Node, Path

_WORDS = Listing(TEXT, Rule.UNIQUE, example="a list of texts")
_TEXTS = "text or a list of texts"
_ONE_OR_MORE = Listing(TEXT, Rule.UNIQUE, or_one=True, example=_TEXTS)
_ONCE = Listing(TEXT, Rule.UNIQUE, example="a list of texts", once=True)
_NUMBER = TextOrNumber(takes_float=False)
_NUMBERS = "a list of texts or numbers"


def _paths(*, keys: str) -> Listing:
    number = Number(keeps_zero=True)
    form: Form = RATE if keys == "rate" else number
    default = "0" if keys == "rate" else 0

    def filled(node: Node, at: Path, reading: Reading) -> list[Node] | None:
        del at, reading
        if not node.is_map:
            return None
        added = {"path": Node("", node.place), keys: Node(default, node.place)}
        return [Node({**added, **node.value}, node.place, keys=node.keys)]

    table = Table({"path": WORDS, keys: form})
    return Listing(table, expand=filled, example="a list of maps with path")


_OPTION = Listing(
    TextOrNumber(takes_bool=True), or_one=True, example="text, a number, or a list of them"
)


_HOOK = Table(
    {
        "command": Command(),
        "image": TEXT,
        "user": TEXT,
        "privileged": Bool(),
        "working_dir": TEXT,
        "environment": VARIABLES,
        "per_replica": Bool(),
    },
    needs=("command",),
)
_HOOKS_EXAMPLE = 'a list, as in [{command: ["/hook"]}]'
_HOOKS = Listing(_HOOK, example=_HOOKS_EXAMPLE)

ATTACHMENT = Table(
    {
        "aliases": Key(_WORDS, Merge(Rule.UNIQUE, docker=Merge(Rule.REPLACE))),
        "driver_opts": OPTIONS,
        "gw_priority": Number(),
        "interface_name": TEXT,
        "ipv4_address": TEXT,
        "ipv6_address": TEXT,
        "link_local_ips": _WORDS,
        "mac_address": TEXT,
        "priority": Number(),
    },
    example="a map, or nothing",
    keeps_empty=True,
)

_NETWORKS = Entries(
    ATTACHMENT,
    listed=bare,
    names=True,
    null_keeps=True,
    example="a map or a list of names of networks",
    once=True,
)
_PRE_START = Table({**_HOOK.keys, "networks": _NETWORKS, "network_mode": TEXT}, needs=("command",))

_HEALTHCHECK = Table(
    {
        "test": Key(HealthTest(), Rule.NULL_RESETS),
        "timeout": DURATION_OR_ZERO,
        "interval": DURATION_OR_ZERO,
        "retries": Number(0, keeps_zero=True),
        "start_period": DURATION_OR_ZERO,
        "start_interval": DURATION_OR_ZERO,
        "disable": Bool(),
    },
    example='a map, as in {test: ["CMD", "true"]}',
    keeps_empty=True,
)

_WATCH = Table(
    {
        "path": FilePath(),
        "action": Word("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
        "target": TEXT,
        "ignore": _ONE_OR_MORE,
        "include": _ONE_OR_MORE,
        "initial_sync": Bool(),
        "exec": _HOOK,
    },
    needs=("path", "action"),
)


class PullPolicy(Text):
    """When an image is pulled; `if_not_present` is `missing`."""

    def __init__(self) -> None:
        words = "always, missing, never, build, daily, weekly"
        fixed = "always|never|build|if_not_present|missing|refresh|daily|weekly"
        super().__init__(
            f"one of {words} or every_DURATION, as in every_12h",
            pattern=rf"{fixed}|every_([0-9]+[wdhms])+",
        )

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The word."""
        found = super().normal(node, at, reading)
        is_old = found is not None and found.value == "if_not_present"
        return found.at("missing") if found is not None and is_old else found


def _service(node: Node) -> Any:
    return {"service": node} if isinstance(node.value, str) else None


class Service(Table):
    """A service; of one without a value the checks say what it lacks."""

    takes_null = True


SERVICE = Service(
    {
        "profiles": _WORDS,
        "annotations": LABELS,
        "attach": Bool(keeps_false=True),
        "build": BUILD,
        "develop": Key(Table({"watch": Listing(_WATCH)}, keeps_empty=True), takes_null=True),
        "blkio_config": Table(
            {
                "weight": Number(0),
                "weight_device": _paths(keys="weight"),
                "device_read_bps": _paths(keys="rate"),
                "device_read_iops": _paths(keys="rate"),
                "device_write_bps": _paths(keys="rate"),
                "device_write_iops": _paths(keys="rate"),
            },
            keeps_empty=True,
        ),
        "cap_add": _WORDS,
        "cap_drop": _WORDS,
        "cgroup": Word("host", "private"),
        "cgroup_parent": TEXT,
        "command": Key(Command(), Rule.NULL_RESETS),
        "configs": CONFIGS,
        "container_name": Text(
            "letters, digits, _ . and -, as in web-1", pattern="[a-zA-Z0-9][a-zA-Z0-9_.-]+"
        ),
        "cpu_count": Number(0),
        "cpu_percent": Number(0, 100),
        "cpu_period": Number(),
        "cpu_quota": Number(),
        "cpu_rt_period": Number(),
        "cpu_rt_runtime": Number(),
        "cpu_shares": Number(),
        "cpus": CPUS,
        "cpuset": TEXT,
        "credential_spec": Table(
            {"config": TEXT, "file": TEXT, "registry": TEXT}, keeps_empty=True
        ),
        "depends_on": DEPENDS_ON,
        "deploy": Key(DEPLOY, takes_null=True),
        "device_cgroup_rules": Listing(TEXT, once=True),
        "devices": DEVICES,
        "dns": Listing(TEXT, Rule.UNIQUE, or_one=True, example=_TEXTS, drops_empty=True),
        "dns_opt": _WORDS,
        "dns_search": _ONE_OR_MORE,
        "domainname": TEXT,
        "entrypoint": Key(Command(), Rule.NULL_RESETS),
        "env_file": ENV_FILES,
        "environment": VARIABLES,
        "expose": Listing(_NUMBER, Rule.UNIQUE, example=_NUMBERS),
        "extends": Table(
            {"service": TEXT, "file": FilePath()},
            short=_service,
            needs=("service",),
            example="a name, or a map with service and file",
        ),
        "external_links": _ONCE,
        "extra_hosts": Hosts(),
        "gpus": Gpus(requests(LABELS), Rule.APPEND, example="all, or a list of device requests"),
        "group_add": Listing(_NUMBER, Rule.UNIQUE, example=_NUMBERS, once=True),
        "healthcheck": _HEALTHCHECK,
        "hostname": TEXT,
        "image": TEXT,
        "init": Bool(keeps_false=True),
        "ipc": TEXT,
        "isolation": TEXT,
        "label_file": Listing(FilePath(), Rule.UNIQUE, or_one=True, example="a path or a list"),
        "labels": LABELS,
        "links": _WORDS,
        "logging": Key(
            Table(
                {"driver": TEXT, "options": OPTIONS},
                example="a map with driver and options",
                keeps_empty=True,
            ),
            Rule.LOGGING,
        ),
        "mac_address": TEXT,
        "mem_limit": SIZE,
        "mem_reservation": SIZE,
        "mem_swappiness": SIZE,
        "memswap_limit": SIZE,
        "models": Entries(
            Table({"endpoint_var": TEXT, "model_var": TEXT}),
            listed=bare,
            null_keeps=True,
            once=True,
        ),
        "network_mode": TEXT,
        "networks": _NETWORKS,
        "oom_kill_disable": Bool(),
        "oom_score_adj": Number(-1000, 1000),
        "pid": TEXT,
        "pids_limit": Number(-1),
        "platform": TEXT,
        "ports": PORTS,
        "post_start": _HOOKS,
        "pre_start": Listing(_PRE_START, example=_HOOKS_EXAMPLE),
        "pre_stop": _HOOKS,
        "privileged": Bool(),
        "provider": Table({"type": TEXT, "options": Entries(_OPTION)}),
        "pull_policy": PullPolicy(),
        "pull_refresh_after": TEXT,
        "read_only": Bool(),
        "restart": Text(
            "one of no, always, on-failure, on-failure:N, unless-stopped",
            pattern="no|always|on-failure(:[0-9]+)?|unless-stopped",
            or_empty=True,
        ),
        "runtime": TEXT,
        "scale": Number(0, keeps_zero=True),
        "secrets": SECRETS,
        "security_opt": _ONCE,
        "shm_size": SIZE,
        "stdin_open": Bool(),
        "stop_grace_period": DURATION_OR_ZERO,
        "stop_signal": TEXT,
        "storage_opt": OPTIONS,
        "sysctls": LABELS,
        "tmpfs": Key(
            Listing(
                TEXT,
                Merge(Rule.KEYED, lambda node: node.value.partition(":")[0]),
                or_one=True,
                example="a path or a list of paths",
            )
        ),
        "tty": Bool(),
        "ulimits": ULIMITS,
        "use_api_socket": Bool(),
        "user": TEXT,
        "userns_mode": TEXT,
        "uts": TEXT,
        "volumes": MOUNTS,
        "volumes_from": _ONCE,
        "working_dir": TEXT,
    },
    example="a map, as in {image: nginx}",
    keeps_empty=True,
    old={
        "log_driver": "write logging: {driver: …}",
        "log_opt": "write logging: {options: …}",
        "net": "write network_mode, or networks",
        "volume_driver": "write driver of an entry of the top-level volumes",
        "dockerfile": "write build: {dockerfile: …}",
        "cpu_set": "write cpuset",
    },
)
