"""Capabilities of a container. PURE."""

from collections.abc import Iterable

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec

DEFAULT = frozenset(
    "CAP_" + name
    for name in (
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP"
        " SETGID SETPCAP SETUID SYS_CHROOT"
    ).split()
)
"""Docker's default set."""
BY_NUMBER = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP"
        " LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER"
        " SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE"
        " SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
        " MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF"
        " CHECKPOINT_RESTORE"
    ).split()
)
"""In the order of the kernel's numbers (linux/capability.h)."""
EVERY = frozenset(BY_NUMBER)


def from_mask(mask: int) -> frozenset[str]:
    """The known capabilities of a mask of /proc/PID/status."""
    return frozenset(name for number, name in enumerate(BY_NUMBER) if mask >> number & 1)


def of_container(spec: ContainerSpec, available: frozenset[str]) -> tuple[str, ...]:
    """The capabilities of a spec; a privileged container has all but those that it drops."""
    every = spec.privileged and "ALL" not in map(str.upper, spec.capability_drop)
    added = ("ALL",) if every else spec.capability_add
    return capabilities(added, spec.capability_drop, available)


def capabilities(
    add: Iterable[str], drop: Iterable[str], available: frozenset[str] = EVERY
) -> tuple[str, ...]:
    """Docker's default set with changes, sorted. `ALL` means every one that is `available`: the
    agent can give no others.

    Raises InvalidArgument for an added one that is unknown or not available.
    """
    added, dropped = _normal(add), _normal(drop)
    kept = frozenset() if "ALL" in dropped else DEFAULT - dropped
    if "ALL" in added:
        kept = available - dropped
    named = added - {"ALL"}
    if missing := sorted(named - available):
        raise InvalidArgument(f"capability {missing[0]}: the agent of this host does not have it")
    return tuple(sorted(kept | named))


def _normal(names: Iterable[str]) -> frozenset[str]:
    normal: set[str] = set()
    for name in names:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in EVERY:
            raise InvalidArgument(f"capability {name!r} is unknown; one is for example NET_ADMIN")
        normal.add(full)
    return frozenset(normal)
