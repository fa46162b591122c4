"""Validation of specs and of hosts' descriptions: value -> problems. PURE; the CLI checks early,
the API checks every request.

Every problem has the field (`--limit-memory`, `image`), the value, and what is expected. An
accepted spec needs no further check: it has no NUL for an exec, no control character for a
terminal, and no number that the kernel would refuse.
"""

from pyswarm_core.validation.cluster import cluster_problems, node_problems
from pyswarm_core.validation.network import network_problems
from pyswarm_core.validation.node import address_problems, description_problems
from pyswarm_core.validation.payloads.problems import data_problems, payload_problems
from pyswarm_core.validation.problem import Problem, as_typed, require
from pyswarm_core.validation.service import login_problems, service_problems
from pyswarm_core.validation.user import token_problems, user_problems
from pyswarm_core.validation.volumes import volume_problems

__all__ = [
    "Problem",
    "as_typed",
    "require",
    "service_problems",
    "login_problems",
    "network_problems",
    "node_problems",
    "cluster_problems",
    "description_problems",
    "address_problems",
    "user_problems",
    "token_problems",
    "volume_problems",
    "payload_problems",
    "data_problems",
]
