"""Debian's podman as a peer of `run --rm`: its default bridge network, in namespaces of its own.
SHELL.

It has its own storage and network namespace, an empty /run, and the fleet's image. Nothing of it
remains afterwards: its cgroups are removed, the rest ends with the namespaces.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.registry.opening import Endpoint
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.plaintext import split_lines

_CGROUP = "libpod_parent"
_CONF = """[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
helper_binaries_dir = [{helpers}]
[network]
network_backend = "netavark"
network_config_dir = "{networks}"
"""
_HELPERS = ("../lib/podman", "../libexec/podman")
"""Where a package has netavark, from its podman's directory."""
_APART = ("unshare", "--mount", "--net", "--propagation", "private")
# No capability for larger limits is needed: some machines do not have it.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
_NETWORK = ("--network", "podman", "--log-driver", "k8s-file")
_READY = "ready"


class Podman:
    """A podman whose command lines enter its namespaces."""

    def __init__(self, program: str, directory: Path, holder: int) -> None:
        self._program = program
        self._directory = directory
        self._holder = holder
        self.version = subprocess.run(
            [program, "--version"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def pull(self, image: str, registry: Endpoint) -> None:
        """Copy an image of the fleet's registry."""
        storage = f"overlay@{self._directory}/root+{self._directory}/run"
        apart = ["nsenter", f"--target={self._holder}", "--mount", "--"]
        copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false"]
        copy += ["--src-authfile", str(registry.authfile)]
        copy += [f"docker://{registry.reference(parse_reference(image))}"]
        words = [*apart, *copy, f"containers-storage:[{storage}]{image}"]
        subprocess.run(words, check=True)

    def run(self, image: str, *command: str) -> list[str]:
        """The command line that runs a container of that image and removes it."""
        enter = ["nsenter", f"--target={self._holder}", "--mount", "--net", "--"]
        enter += ["env", f"CONTAINERS_CONF={self._directory}/containers.conf", self._program]
        kept = ["--root", f"{self._directory}/root", "--runroot", f"{self._directory}/run"]
        kept += ["--tmpdir", f"{self._directory}/tmp", "--storage-driver", "overlay"]
        program, *arguments = command
        given = ["--pull", "never", *_NETWORK, *_LIMITS, "--entrypoint", program, image]
        return [*enter, *kept, "run", "--rm", *given, *arguments]


@contextmanager
def podman(directory: Path) -> Iterator[Podman | None]:
    """Podman with its storage below `directory`; None if it is not installed."""
    program = shutil.which("podman")
    if program is None:
        yield None
        return
    for name in ("root", "run", "tmp", "networks"):
        (directory / name).mkdir(parents=True)
    helpers = ", ".join(f'"{(Path(program).parent / one).resolve()}"' for one in _HELPERS)
    (directory / "containers.conf").write_text(
        _CONF.format(helpers=helpers, networks=directory / "networks")
    )
    script = f"mount -t tmpfs tmpfs /run && ip link set lo up && echo {_READY} && exec cat"
    words = [*_APART, "sh", "-c", script]
    try:
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            if holder.stdout.readline().strip() != _READY.encode():
                raise RuntimeError("podman: its namespaces could not be made")
            yield Podman(program, directory, holder.pid)
            holder.stdin.close()
    finally:
        _remove_cgroups()


def _remove_cgroups() -> None:
    for row in split_lines(Path("/proc/self/mounts").read_text()):
        _, target, kind, *_ = row.split()
        if kind.startswith("cgroup"):
            top = Path(target) / _CGROUP
            for place in sorted(top.glob("**/"), key=lambda path: -len(path.parts)):
                with suppress(OSError):  # a process in it is ending
                    place.rmdir()
