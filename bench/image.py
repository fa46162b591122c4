"""The image of the container benchmarks: one process that waits, and ends on SIGTERM at once.

SHELL. A static busybox and a script. The script waits without a second process by reading from a
terminal without input.
"""

import shutil
from pathlib import Path

PROGRAM = ("/pause",)
NAME = "bench-pause:1"
_SCRIPT = """#!/bin/sh
trap 'exit 0' TERM
read -r _ <>/dev/ptmx
"""
_CONTAINERFILE = f"""FROM scratch
COPY rootfs/ /
CMD ["{PROGRAM[0]}"]
"""


def make_context(directory: Path) -> Path:
    """Lay out a build context; return its root file system. Raises FileNotFoundError."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox is not installed: apt-get install busybox-static")
    root = directory / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    script = root / PROGRAM[0].lstrip("/")
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    (directory / "Containerfile").write_text(_CONTAINERFILE)
    return root
