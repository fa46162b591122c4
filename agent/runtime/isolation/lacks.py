"""What this host lacks for containers that are isolated in some ways. SHELL."""

import stat
from collections.abc import Mapping
from pathlib import Path

from agent.runtime.isolation import idmaps
from pyswarm_core.states import Capability


def missing(state_dir: Path, run_dir: Path, *, apparmor: bool) -> Mapping[Capability, str]:
    """The capabilities that this host lacks, with one line for operators on each. Image layers are
    below `state_dir`, containers below `run_dir`, which exist.
    """
    found = {}
    if reason := idmaps.problem(state_dir) or _closed(run_dir):
        found[Capability.USERNS] = reason
    if not apparmor:
        found[Capability.APPARMOR] = "its kernel has no AppArmor, or it is off"
    return found


def _closed(run_dir: Path) -> str:
    """The directory that root of a user namespace cannot pass on the way to its container."""
    for parent in run_dir.resolve().parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            return f"{parent} is closed to other users: chmod o+x {parent}"
    return ""
