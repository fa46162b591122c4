"""The mount namespace and the disk of a playground's host. SHELL over mount(8).

A host has its own /etc and /var/lib, which are on its disk and survive a power loss, and its own
/run, which does not. All other files are the machine's. The disk is a directory of the machine, or
a tmpfs if it has a size. Processes enter the mount namespace by the file to which it is bound.
Invariants: what a host mounts is mounted on no other host and not on the machine; the host's disk
and the playground's run directory have the same paths on the host and on the machine.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from cli import daemons
from cli.playground.fleet import Fleet, Host
from pyswarm_core.errors import PyswarmError
from pyswarm_core.plaintext import split_lines

_OWN = ("/run", "/var/lib")
_PROGRAM = (Path(__file__).resolve().parents[2], Path(sys.prefix), Path(sys.base_prefix))
"""The directories from which a host's daemons run."""

# Without -n, mount(8) fails over its table in the /run that is being replaced.
_LET_GO = 'umount -n --lazy "$@" || :'
"""Arguments: mounts of others below /run and /var/lib. Their copies in the host's namespace would
keep the file systems in use.
"""
_ASSEMBLE = """
root=$1; shift
mount -n -t tmpfs -o mode=0755 run "$root/run"
mount -n --bind "$root/var/lib" "$root/var/lib"
for path; do
  mkdir -p "$root$path"
  mount -n --bind "$path" "$root$path"
done
layers=lowerdir=/etc,upperdir=$root/etc/upper,workdir=$root/etc/work
mount -n -t overlay -o "$layers" etc /etc 2>/dev/null || {
  cp --archive --no-clobber /etc/. "$root/etc/upper"
  mount -n --bind "$root/etc/upper" /etc
}
mount -n --move "$root/run" /run
mount -n --move "$root/var/lib" /var/lib
"""
"""Arguments: the host's root, and the paths below the machine's /run and /var/lib that it keeps.

The kernel limits the depth of overlays over overlays; beyond it, /etc is copied.
"""


class DiskFailed(PyswarmError):
    """A program failed; the text is its error."""


def mount_run(fleet: Fleet) -> None:
    """Mount a tmpfs for the hosts' run directories, which do not survive a power loss."""
    fleet.run_dir.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "mode=0755", "pyswarm", fleet.run_dir)
    # A mount namespace cannot be bound to a file on a shared mount.
    _run("mount", "--make-private", fleet.run_dir)


def make_disk(fleet: Fleet, host: Host) -> None:
    """Create a host's disk with an empty /var/lib and its files of /etc."""
    host.state_dir.mkdir(parents=True, exist_ok=True)
    if fleet.disk:
        options = f"mode=0755,size={fleet.disk}"
        _run("mount", "-t", "tmpfs", "-o", options, "disk", host.state_dir)
    for own in (*_OWN, "/etc/upper", "/etc/work"):
        (host.root / own.lstrip("/")).mkdir(parents=True)
    etc = host.root / "etc/upper"
    (etc / "hostname").write_text(f"{host.name}\n")
    # On the machine these may be links into /run, or mounts of a container engine.
    for name in ("hosts", "resolv.conf"):
        with suppress(FileNotFoundError):
            shutil.copy(f"/etc/{name}", etc / name)


def make_namespace(fleet: Fleet, host: Host) -> None:
    """Create a host's mount namespace and bind it to its file."""
    host.run_dir.mkdir(parents=True, exist_ok=True)
    host.mountns_path.touch()
    kept = [fleet.run_dir, host.state_dir]
    kept += [path for path in dict.fromkeys(_PROGRAM) if any(map(path.is_relative_to, _OWN))]
    mounted = [path for own in _OWN for path in mounted_below(Path(own))]
    others = [path for path in mounted if not any(_overlap(path, one) for one in kept)]
    unshare = ("unshare", f"--mount={host.mountns_path}", "--propagation=slave")
    _run_on_any_processor(*unshare, "sh", "-c", _LET_GO, "sh", *others)
    enter = daemons.entering(None, host.mountns_path)
    _run(*enter, "sh", "-ec", _ASSEMBLE, "sh", host.root, *kept)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def unmount(directory: Path) -> None:
    """Unmount everything at and under a directory."""
    for target in mounted_below(directory):
        subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)


def mounted_below(directory: Path) -> list[Path]:
    """The mount points at and under a directory, the innermost first."""
    rows = [line.split(" ") for line in split_lines(Path("/proc/self/mounts").read_text())]
    targets = [Path(row[1]) for row in rows]
    return [path for path in reversed(targets) if path.is_relative_to(directory)]


def _run_on_any_processor(*words: str | Path) -> None:
    """Run a command that binds a new mount namespace to a file. The kernel requires that its number
    is greater than that of the namespace in which it is bound. Since Linux 6.18 each processor
    numbers namespaces in its own range, so in a container success depends on the processor.
    """
    try:
        _run(*words)
    except DiskFailed:
        for processor in sorted(os.sched_getaffinity(0)):
            with suppress(DiskFailed):
                _run("taskset", "--cpu-list", str(processor), *words)
                return
        raise


def _run(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        said = [*split_lines(done.stderr.strip()), f"exit code {done.returncode}"][0]
        raise DiskFailed(f"{words[0]}: {said}")
