"""Which specs and descriptions of hosts are allowed: value -> problems. PURE; the CLI asks early,
the API has the last word.

Every check names the field by the word users type (`limit-memory`, `constraint`), the value, and
what would be valid. An accepted spec needs no further check anywhere: no NUL reaches an exec, no
control character a terminal, no number a kernel that would refuse it.
"""

from pyswarm_core.validation.cluster import cluster_problems, node_problems
from pyswarm_core.validation.network import network_problems
from pyswarm_core.validation.node import address_problems, description_problems
from pyswarm_core.validation.problem import Problem, require
from pyswarm_core.validation.service import login_problems, service_problems

__all__ = [
    "Problem",
    "require",
    "service_problems",
    "login_problems",
    "network_problems",
    "node_problems",
    "cluster_problems",
    "description_problems",
    "address_problems",
]
