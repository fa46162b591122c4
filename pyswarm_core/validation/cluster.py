"""Validation of node and cluster specs. PURE."""

import ipaddress
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from pyswarm_core.clock import HOUR, MILLISECOND, MINUTE
from pyswarm_core.docker.units import human_size
from pyswarm_core.identity.limits import CERT_EXPIRY_MAX, CERT_EXPIRY_MIN
from pyswarm_core.limits import HISTORY_MAX, SPEC_BYTES_MAX
from pyswarm_core.specs import ROLES, ClusterSpec, NodeSpec
from pyswarm_core.states import Availability
from pyswarm_core.validation import text
from pyswarm_core.validation.network import SUBNET_PREFIX_MAX, subnet_problems
from pyswarm_core.validation.problem import Problem, at_most, within
from pyswarm_core.validation.ranges import DURATION, LIFETIME, Range
from pyswarm_core.validation.volumes import bind_source_fault
from pyswarm_core.volumes.limits import ALLOWED_PATHS_MAX

HEARTBEAT_PERIODS = Range(DURATION, 100 * MILLISECOND, MINUTE)
AGENT_GRACES = Range(DURATION, 0, HOUR)
CERT_EXPIRIES = Range(LIFETIME, CERT_EXPIRY_MIN, CERT_EXPIRY_MAX)
POOLS_MAX = 16
DATA_PATH_PORTS = (1024, 49151)


def node_problems(spec: NodeSpec) -> list[Problem]:
    """The problems of a node spec."""
    size = len(msgspec.msgpack.encode(spec))
    if size > SPEC_BYTES_MAX:
        return [
            Problem(
                "node", human_size(size), f"expected at most {human_size(SPEC_BYTES_MAX)}", "size"
            )
        ]
    problems = list(text.label_problems("--label", spec.labels))
    if spec.role not in ROLES:
        problems.append(Problem("--role", spec.role, f"expected {' or '.join(ROLES)}"))
    if spec.move_volumes and spec.availability is not Availability.DRAIN:
        expected = "expected it with --availability drain alone"
        problems.append(Problem("--move-volumes", "true", expected))
    return problems


def cluster_problems(spec: ClusterSpec) -> list[Problem]:
    """The problems of the fleet's settings."""
    return [
        *text.name_problems("--name", spec.name),
        *within("--task-history-limit", spec.task_history_limit, 0, HISTORY_MAX),
        *within("--data-path-port", spec.data_path_port, *DATA_PATH_PORTS),
        *_pool_problems(spec),
        *HEARTBEAT_PERIODS.problems("--dispatcher-heartbeat", spec.heartbeat_period),
        *AGENT_GRACES.problems("--agent-grace", spec.agent_grace),
        *CERT_EXPIRIES.problems("--cert-expiry", spec.cert_expiry),
        *_allowed_path_problems(spec),
    ]


def _allowed_path_problems(spec: ClusterSpec) -> Iterable[Problem]:
    flag, paths = "--allowed-bind-paths", spec.allowed_bind_paths
    yield from at_most(flag, paths, ALLOWED_PATHS_MAX)
    for path in paths[:ALLOWED_PATHS_MAX]:
        if path in ("", "/"):
            yield Problem(flag, path, "expected a path below /, which is all files of the nodes")
        elif path.endswith("/") or bind_source_fault(path):
            expected = "expected an absolute path without . and .., and without a slash at its end"
            yield Problem(flag, path, expected)
    for path, count in Counter(paths).items():
        if count > 1:
            yield Problem(flag, path, "expected each path once")


def _pool_problems(spec: ClusterSpec) -> Iterable[Problem]:
    pools = spec.default_address_pool
    if not 1 <= len(pools) <= POOLS_MAX:
        yield Problem("--default-addr-pool", len(pools), f"expected 1 to {POOLS_MAX}", "count")
        return
    wrong = [problem for pool in pools for problem in subnet_problems("--default-addr-pool", pool)]
    if wrong:
        yield from wrong
        return
    subnets = sorted(ipaddress.IPv4Network(pool) for pool in pools)
    for one, other in pairwise(subnets):
        if one.overlaps(other):
            yield Problem("--default-addr-pool", str(other), f"expected no overlap with {one}")
    longest = max(subnet.prefixlen for subnet in subnets)
    yield from within(
        "--default-addr-pool-mask-length", spec.subnet_size, longest, SUBNET_PREFIX_MAX
    )
