"""Checks whether this host can run containers: programs, versions, cgroups. SHELL, mostly reading.

`probe` checks; `prepare` makes the two changes to a host that may be needed (it moves the remaining
v2 controllers of a hybrid cgroup host to v1, and raises some limits of the kernel). Invariant:
nothing is unmounted or moved, no limit is lowered, and an error names the package to install.
"""

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from agent.runtime import cgroups
from agent.runtime.cgroups import Hierarchies
from agent.runtime.conmon import ENVIRONMENT, Binaries
from agent.tasks.isolation.capabilities import from_mask
from agent.tasks.ocispec import HostFacts
from pyswarm_core.errors import Unavailable
from pyswarm_core.plaintext import split_lines

# Static inits only: they run in any image.
INITS = (
    "/usr/libexec/podman/catatonit",
    "/usr/bin/catatonit",
    "/usr/bin/docker-init",
    "/usr/bin/tini-static",
    "/sbin/tini-static",
)
PACKAGES = {
    "conmon": "conmon",
    "crun": "crun (or runc)",
    "skopeo": "skopeo",
    "containers-storage": "containers-storage",
    "nft": "nftables",
    "ip": "iproute2",
    "openssl": "openssl",
}
_UNVERSIONED = ("skopeo", "containers-storage", "nft", "ip", "openssl")
CONTROLLERS = ("memory", "cpu", "pids")
_SETTINGS = Path("/proc/sys")
_NEIGHBOURS = {"gc_thresh1": 8_192, "gc_thresh2": 32_768, "gc_thresh3": 65_536}
LIMITS = {
    "fs/inotify/max_user_instances": 8_192,
    **{f"net/ipv4/neigh/default/{name}": least for name, least in _NEIGHBOURS.items()},
    **{f"net/ipv6/neigh/default/{name}": least for name, least in _NEIGHBOURS.items()},
}
"""Minimums of kernel limits. Neighbours: all namespaces of a host share one table of 1,024, and
tasks that all communicate have an entry for each of the 60 others of their block: 60,000 for a
thousand tasks. Entries of other hosts' tasks and of gateways are few.
"""
_PROBE_TIMEOUT_S = 10.0


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """A host that can run containers."""

    binaries: Binaries
    hierarchies: Hierarchies
    facts: HostFacts


def probe() -> Preflight:
    """Check this host. Raises Unavailable naming everything that is missing and how to get it."""
    hierarchies = cgroups.mounted()
    conmon = _version("conmon")
    kind, version = choose_runtime(_version("crun"), _version("runc"))
    missing = [name for name in _UNVERSIONED if not _path(name)]
    missing += [name for name, present in (("conmon", conmon), ("crun", kind)) if not present]
    problems = [*map(missing_program, missing), *cgroup_problems(hierarchies, _controllers())]
    if problems:
        raise Unavailable("this host cannot run containers: " + "; ".join(problems))
    return Preflight(
        binaries=Binaries(conmon=_path("conmon"), oci=_path(kind), kind=kind, version=version),
        hierarchies=hierarchies,
        facts=_facts(hierarchies),
    )


def prepare() -> tuple[str, ...]:
    """Prepare the host; return the changes, as sentences. Needs root.

    Raises Unavailable if a controller cannot be mounted.
    """
    done: list[str] = []
    mounted = cgroups.mounted()
    unseen = mounted_elsewhere(mounted, Path("/proc/self/cgroup").read_text())
    for name in controllers_to_mount(mounted, (*_controllers(), *unseen)):
        target = Path("/sys/fs/cgroup") / name
        target.mkdir(exist_ok=True)
        words = ["mount", "-t", "cgroup", "-o", name, "none", str(target)]
        result = subprocess.run(words, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S)
        if result.returncode:
            raise Unavailable(f"cannot mount the cgroup controller {name}: {result.stderr.strip()}")
        done.append(f"mounted the cgroup controller {name} at {target}")
    return (*done, *raised(_SETTINGS), *raised_files())


def raised_files() -> Iterator[str]:
    """Raise this process's limit of open files to the hard limit: a login shell's 1,024, which it
    may have inherited, suffice for 250 tasks.
    """
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if usual != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        yield f"raised the number of open files from {usual} to {most}"


def raised(settings: Path) -> Iterator[str]:
    """Raise the limits under that directory; yield each change. A limit that does not exist (no
    IPv6, or only another namespace has the table of neighbours) or is not writable stays as it is.
    """
    for name, least in LIMITS.items():
        path, word = settings / name, name.replace("/", ".")
        if not path.exists() or int(path.read_text()) >= least:
            continue
        try:
            path.write_text(str(least))
        except OSError as error:
            yield f"could not raise {word} to {least}: {error.strerror}"
        else:
            yield f"raised {word} to {least}"


def choose_runtime(crun_version: str, runc_version: str) -> tuple[str, str]:
    """The OCI runtime to use and its version: crun if it runs, else runc. PURE.

    A version is empty if the program is missing or cannot run; two empty strings: neither runs.
    """
    if crun_version:
        return "crun", crun_version
    return ("runc", runc_version) if runc_version else ("", "")


def controllers_to_mount(hierarchies: Hierarchies, unified: tuple[str, ...]) -> tuple[str, ...]:
    """The v2 controllers of a hybrid host, which must move to v1 before crun accepts it. PURE."""
    return unified if hierarchies.v1 and hierarchies.unified else ()


def mounted_elsewhere(hierarchies: Hierarchies, cgroups_of_self: str) -> tuple[str, ...]:
    """The v1 controllers that only other mount namespaces have mounted, from /proc/self/cgroup: the
    OCI runtime would make plain directories in their place. PURE.
    """
    rows = [line.split(":", 2) for line in cgroups_of_self.split("\n") if line]
    names = [name for row in rows for name in row[1].split(",") if name and "=" not in name]
    return tuple(name for name in names if name not in hierarchies.v1)


def cgroup_problems(hierarchies: Hierarchies, unified: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons why cgroup limits do not work, as sentences. PURE."""
    stray = controllers_to_mount(hierarchies, unified)
    problems = [
        f"cgroup controller {name} is on v2 beside v1 controllers: run "
        f"mkdir -p /sys/fs/cgroup/{name} && mount -t cgroup -o {name} none /sys/fs/cgroup/{name}"
        for name in stray
    ]
    present = hierarchies.v1 if hierarchies.v1 else unified
    problems += [
        f"cgroup controller {name} is not available: enable it on the kernel command line"
        for name in CONTROLLERS
        if name not in present
    ]
    return tuple(problems)


def missing_program(name: str) -> str:
    """The error of a program that is not installed. PURE."""
    return f"{name} is missing: install the Debian package {PACKAGES[name]}"


def parse_version(output: str) -> str:
    """The version in the output of `--version` of conmon, crun or runc, or empty. PURE."""
    found = re.search(r"version:? (\d[^\s]*)", output)
    return found.group(1) if found else ""


def _facts(hierarchies: Hierarchies) -> HostFacts:
    major, minor, *_ = re.findall(r"\d+", os.uname().release)
    memory = hierarchies.v1.get("memory")
    return HostFacts(
        machine=platform.machine(),
        kernel=(int(major), int(minor)),
        unified_cgroups=not hierarchies.v1,
        swap_accounted=not memory or Path(memory, "memory.memsw.limit_in_bytes").exists(),
        capabilities=from_mask(int(_status_field("CapBnd"), 16)),
        apparmor=_has_apparmor(),
        init_path=next((path for path in INITS if Path(path).is_file()), ""),
    )


def _has_apparmor() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


def _status_field(name: str) -> str:
    """A field of this process's status."""
    rows = split_lines(Path("/proc/self/status").read_text())
    return next(row.split(":", 1)[1].strip() for row in rows if row.startswith(f"{name}:"))


def _controllers() -> tuple[str, ...]:
    """The controllers of the v2 hierarchy, if one is mounted."""
    unified = cgroups.mounted().unified
    return tuple(Path(unified, "cgroup.controllers").read_text().split()) if unified else ()


def _path(program: str) -> str:
    return shutil.which(program, path=ENVIRONMENT["PATH"]) or ""


def _version(program: str) -> str:
    """The version of a program; empty if it is not installed or cannot run."""
    path = _path(program)
    if not path:
        return ""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return parse_version(done.stdout) if done.returncode == 0 else ""
