"""`deploy` of a service. PURE."""

from compose.forms.base import Rule
from compose.forms.entries import requests
from compose.forms.lists import Listing
from compose.forms.maps import LABELS, Table
from compose.forms.scalars import (
    DURATION,
    DURATION_OR_ZERO,
    SIZE_TEXT,
    TEXT,
    Number,
    Word,
)

CPUS = Number(0, is_float=True)

_CHANGE = {
    "parallelism": Number(0, keeps_zero=True),
    "delay": DURATION,
    "failure_action": Word("continue", "pause", "rollback"),
    "monitor": DURATION,
    "max_failure_ratio": Number(0, 1, is_float=True),
    "order": Word("stop-first", "start-first"),
}

GENERIC = Listing(
    Table({"discrete_resource_spec": Table({"kind": TEXT, "value": Number(0)})}), Rule.APPEND
)

RESOURCES = Table(
    {
        "limits": Table({"cpus": CPUS, "memory": SIZE_TEXT, "pids": Number(-1)}, keeps_empty=True),
        "reservations": Table(
            {
                "cpus": CPUS,
                "memory": SIZE_TEXT,
                "generic_resources": GENERIC,
                "devices": Listing(requests(LABELS, "capabilities"), Rule.APPEND),
            },
            keeps_empty=True,
        ),
    }
)

DEPLOY = Table(
    {
        "mode": Word("replicated", "global", "replicated-job", "global-job", or_empty=True),
        "replicas": Number(0, keeps_zero=True),
        "endpoint_mode": Word("vip", "dnsrr", or_empty=True),
        "labels": LABELS,
        "update_config": Table(_CHANGE, keeps_empty=True),
        "rollback_config": Table(_CHANGE, keeps_empty=True),
        "resources": RESOURCES,
        "restart_policy": Table(
            {
                "condition": Word("none", "on-failure", "any", or_empty=True),
                "delay": DURATION_OR_ZERO,
                "max_attempts": Number(0, keeps_zero=True),
                "window": DURATION_OR_ZERO,
            },
            keeps_empty=True,
        ),
        "placement": Table(
            {
                "constraints": Listing(TEXT, example='a list, as in ["node.role==worker"]'),
                "preferences": Listing(Table({"spread": TEXT})),
                "max_replicas_per_node": Number(0),
            }
        ),
    },
    keeps_empty=True,
)
