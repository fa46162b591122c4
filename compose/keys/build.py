"""`build` of a service. PURE."""

from typing import Any

from compose.forms.base import Rule
from compose.forms.entries import BUILD_SECRETS, ULIMITS, Hosts, Ssh
from compose.forms.lists import Listing
from compose.forms.maps import LABELS, VARIABLES, Entries, Table, equals
from compose.forms.scalars import SIZE, TEXT, WORDS, Bool, ContextPath, TextOrNumber
from compose.tree import Node

_TEXTS = Listing(TEXT, Rule.UNIQUE, example="a list of texts")


def _context(node: Node) -> Any:
    return {"context": node} if isinstance(node.value, str) else None


BUILD = Table(
    {
        "context": ContextPath(),
        "dockerfile": TEXT,
        "dockerfile_inline": WORDS,
        "args": VARIABLES,
        "ssh": Ssh(),
        "labels": LABELS,
        "cache_from": Listing(TEXT, example="a list of texts"),
        "cache_to": Listing(TEXT, example="a list of texts"),
        "no_cache": Bool(),
        "no_cache_filter": Listing(TEXT, Rule.UNIQUE, or_one=True, once=True),
        "additional_contexts": Entries(
            ContextPath(), listed=equals, example="a map or a list of NAME=PATH"
        ),
        "network": TEXT,
        "provenance": TextOrNumber(takes_bool=True),
        "sbom": TextOrNumber(takes_bool=True),
        "pull": Bool(),
        "target": TEXT,
        "shm_size": SIZE,
        "extra_hosts": Hosts(),
        "isolation": TEXT,
        "privileged": Bool(),
        "secrets": BUILD_SECRETS,
        "tags": _TEXTS,
        "ulimits": ULIMITS,
        "platforms": _TEXTS,
        "entitlements": _TEXTS,
    },
    short=_context,
    example="a path, or a map with context",
    keeps_empty=True,
)
