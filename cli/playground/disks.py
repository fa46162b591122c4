"""The files of a playground's host: its mount namespace and its disk. SHELL over mount(8).

A host has its own /etc and /var/lib, which are on its disk and survive a power loss, and its own
/run, which does not. Everything else is the machine's. The disk is a directory of the machine, or a
tmpfs if it has a size. The mount namespace is bound to a file, by which processes enter it.
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
"""What a host's daemons are run from."""

# Without -n, mount(8) fails over its table in the /run that is being replaced.
_LET_GO = 'umount -n --lazy "$@" || :'
"""Arguments: what others have mounted below /run and /var/lib. The copies of these mounts in the
host's namespace would keep the file systems in use.
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
"""Arguments: the host's root, and what it sees of the machine's /run and /var/lib.

A machine whose /etc is on overlays over overlays allows no further one; there /etc is copied.
"""


class DiskFailed(PyswarmError):
    """A program refused; the text is its own."""


def mount_run(fleet: Fleet) -> None:
    """Keep what a power loss takes in memory, as a real host's /run is, whatever /run is here."""
    fleet.run_dir.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "mode=0755", "pyswarm", fleet.run_dir)
    # A mount namespace cannot be bound to a file whose mount is shared.
    _run("mount", "--make-private", fleet.run_dir)


def make_disk(fleet: Fleet, host: Host) -> None:
    """Make a host's disk, with an empty /var/lib and its own files of /etc."""
    host.state_dir.mkdir(parents=True, exist_ok=True)
    if fleet.disk:
        options = f"mode=0755,size={fleet.disk}"
        _run("mount", "-t", "tmpfs", "-o", options, "disk", host.state_dir)
    for own in (*_OWN, "/etc/upper", "/etc/work"):
        (host.root / own.lstrip("/")).mkdir(parents=True)
    etc = host.root / "etc/upper"
    (etc / "hostname").write_text(f"{host.name}\n")
    # Elsewhere these are links into /run, or files that a container engine has mounted.
    for name in ("hosts", "resolv.conf"):
        with suppress(FileNotFoundError):
            shutil.copy(f"/etc/{name}", etc / name)


def make_namespace(fleet: Fleet, host: Host) -> None:
    """Make a host's mount namespace and bind it to its file."""
    host.run_dir.mkdir(parents=True, exist_ok=True)
    host.mountns_path.touch()
    kept = [fleet.run_dir, host.state_dir]
    kept += [path for path in dict.fromkeys(_PROGRAM) if any(map(path.is_relative_to, _OWN))]
    mounted = [path for own in _OWN for path in mounted_below(Path(own))]
    others = [path for path in mounted if not any(_overlap(path, one) for one in kept)]
    unshare = ("unshare", f"--mount={host.mountns_path}", "--propagation=slave")
    _run_on_a_processor_that_can(*unshare, "sh", "-c", _LET_GO, "sh", *others)
    enter = daemons.entering(None, host.mountns_path)
    _run(*enter, "sh", "-ec", _ASSEMBLE, "sh", host.root, *kept)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def unmount(directory: Path) -> None:
    """Unmount everything at and under a directory."""
    for target in mounted_below(directory):
        subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)


def mounted_below(directory: Path) -> list[Path]:
    """What is mounted at and under a directory, the innermost first."""
    rows = [line.split(" ") for line in split_lines(Path("/proc/self/mounts").read_text())]
    targets = [Path(row[1]) for row in rows]
    return [path for path in reversed(targets) if path.is_relative_to(directory)]


def _run_on_a_processor_that_can(*words: str | Path) -> None:
    """Run what binds a new mount namespace to a file. The kernel refuses one of a smaller number
    than the namespace it is bound in has, and since Linux 6.18 each processor numbers them in a
    range of its own: in a container it depends on the processor.
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
