"""What a controller reads and keeps on its host. SHELL."""

import socket
from pathlib import Path

from pyswarm_core.ids import IdSource
from pyswarm_core.plaintext import split_lines


def controller_id(state_dir: Path, ids: IdSource) -> str:
    """This controller's id, the same over restarts."""
    file = state_dir / "controller-id"
    if file.exists():
        return file.read_text().strip()
    (identity,) = ids.draw(1)
    fresh = file.with_suffix(".new")
    fresh.write_text(identity)
    fresh.rename(file)
    return identity


def host_routes() -> list[str]:
    """The subnets that this host routes, without default routes."""
    routes = []
    for line in split_lines(Path("/proc/net/route").read_text())[1:]:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        prefix = int(mask, 16).bit_count()
        if prefix:
            address = socket.inet_ntoa(bytes.fromhex(destination)[::-1])
            routes.append(f"{address}/{prefix}")
    return routes
