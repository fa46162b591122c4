"""Whether and how this host can run containers: programs, versions, cgroups. SHELL, mostly reading.

`probe` looks and decides; `prepare` makes the two changes to a host that may be needed (a hybrid
cgroup host's last v2 controller moves to v1, some of the kernel's limits are raised). Invariant:
what is mounted is never unmounted or moved, no limit is lowered, and what is missing is named with
the package that brings it.
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
from agent.tasks.ocispec import HostFacts
from pyswarm_core.errors import Unavailable

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
}
CONTROLLERS = ("memory", "cpu", "pids")
_SETTINGS = Path("/proc/sys")
_NEIGHBOURS = {"gc_thresh1": 8_192, "gc_thresh2": 32_768, "gc_thresh3": 65_536}
LIMITS = {
    "fs/inotify/max_user_instances": 8_192,
    **{f"net/ipv4/neigh/default/{name}": least for name, least in _NEIGHBOURS.items()},
    **{f"net/ipv6/neigh/default/{name}": least for name, least in _NEIGHBOURS.items()},
}
"""What the kernel should allow at least. Neighbours: all namespaces of a machine share one table of
1,024, and tasks that all talk to each other have an entry for each of the 60 others of their block;
a thousand tasks may so have 60,000. Other hosts' tasks and gateways cost no entry that counts.
"""
_PROBE_TIMEOUT_S = 10.0


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """A host that can run containers."""

    binaries: Binaries
    conmon_version: str
    hierarchies: Hierarchies
    facts: HostFacts


def probe() -> Preflight:
    """Look at this host. Raises Unavailable naming all that is missing and how to get it."""
    hierarchies = cgroups.mounted()
    conmon = _version("conmon")
    kind, version = choose_runtime(_version("crun"), _version("runc"))
    missing = [name for name in ("skopeo", "containers-storage", "nft", "ip") if not _path(name)]
    missing += [name for name, present in (("conmon", conmon), ("crun", kind)) if not present]
    problems = [*map(missing_program, missing), *cgroup_problems(hierarchies, _controllers())]
    if problems:
        raise Unavailable("this host cannot run containers yet: " + "; ".join(problems))
    return Preflight(
        binaries=Binaries(conmon=_path("conmon"), oci=_path(kind), kind=kind, version=version),
        conmon_version=conmon,
        hierarchies=hierarchies,
        facts=_facts(hierarchies),
    )


def prepare() -> tuple[str, ...]:
    """Make the host fit; return what was done, as sentences. Needs root.

    Raises Unavailable if a controller cannot be mounted.
    """
    done: list[str] = []
    for name in controllers_to_mount(cgroups.mounted(), _controllers()):
        target = Path("/sys/fs/cgroup") / name
        target.mkdir(exist_ok=True)
        words = ["mount", "-t", "cgroup", "-o", name, "none", str(target)]
        result = subprocess.run(words, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S)
        if result.returncode:
            raise Unavailable(f"cannot mount the cgroup controller {name}: {result.stderr.strip()}")
        done.append(f"mounted the cgroup controller {name} at {target}")
    return (*done, *raised(_SETTINGS), *raised_files())


def raised_files() -> Iterator[str]:
    """Allow this process as many open files as it may allow itself: a login shell's 1,024, which it
    may have inherited, are those of 250 tasks.
    """
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if usual != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        yield f"raised the number of open files from {usual} to {most}"


def raised(settings: Path) -> Iterator[str]:
    """Raise the limits under that directory, and say which. One that is not there (no IPv6, or the
    table of neighbours is another namespace's to set) or may not be written stays as it is.
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
    """The OCI runtime to use and its version: crun where it runs, else runc. PURE.

    A version is empty where the program is absent or cannot run; two empty strings: none.
    """
    if crun_version:
        return "crun", crun_version
    return ("runc", runc_version) if runc_version else ("", "")


def controllers_to_mount(hierarchies: Hierarchies, unified: tuple[str, ...]) -> tuple[str, ...]:
    """v2 controllers of a hybrid host that must move to v1 before crun accepts it. PURE."""
    return unified if hierarchies.v1 and hierarchies.unified else ()


def cgroup_problems(hierarchies: Hierarchies, unified: tuple[str, ...]) -> tuple[str, ...]:
    """What keeps limits from working, as sentences. PURE."""
    stray = controllers_to_mount(hierarchies, unified)
    problems = [
        f"cgroup controller {name} is left on v2 beside v1 controllers: "
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
    """The sentence for something that is not installed. PURE."""
    return f"{name} is missing: install the Debian package {PACKAGES[name]}"


def parse_version(output: str) -> str:
    """The version that `--version` of conmon, crun or runc prints; empty if none. PURE."""
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
        init_path=next((path for path in INITS if Path(path).is_file()), ""),
    )


def _controllers() -> tuple[str, ...]:
    """The controllers of the v2 hierarchy, if one is mounted."""
    unified = cgroups.mounted().unified
    return tuple(Path(unified, "cgroup.controllers").read_text().split()) if unified else ()


def _path(program: str) -> str:
    return shutil.which(program, path=ENVIRONMENT["PATH"]) or ""


def _version(program: str) -> str:
    """The version of an installed program that can run; empty otherwise."""
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
