"""Stores a host's plan in its run directory: one file for networks and published ports, and one
file per endpoint, so that a changed endpoint costs one write. SHELL.

The run directory is in memory (tmpfs). The keys of encrypted networks are stored nowhere else.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from agent.network.base import DesiredEndpoint, EndpointKey
from agent.overlays.plan import SavedPlan
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.overlays.files")


class NetworkFiles:
    """The files of one agent. A file that cannot be read or written is logged: the controller sends
    its content again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.written = 0
        """Number of files written or removed."""

    def load(self) -> SavedPlan:
        """The stored plan. Endpoints are also read from the single file in which earlier agents
        stored them.
        """
        if not self._path.exists():
            return SavedPlan()
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=SavedPlan)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            _log.error("network.unreadable", path=self._path, error=error)
            return SavedPlan()
        endpoints = {endpoint.key: endpoint for endpoint in kept.endpoints}
        for file in sorted(self._path.parent.glob(f"{self._path.stem}.*.*")):
            try:
                endpoint = msgspec.json.decode(file.read_bytes(), type=DesiredEndpoint)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                _log.error("network.unreadable", path=file, error=error)
            else:
                endpoints[endpoint.key] = endpoint
        return msgspec.structs.replace(kept, endpoints=tuple(endpoints.values()))

    def save(self, kept: SavedPlan) -> None:
        """Store exactly these networks and ports."""
        self._write(self._path, kept)

    def save_endpoints(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """Store these endpoints as they are now; None: remove the file."""
        for (service_id, network_id), endpoint in changed.items():
            names = (quote(name, safe="") for name in (network_id, service_id))
            file = self._path.with_suffix(f".{'.'.join(names)}")
            if endpoint is not None:
                self._write(file, endpoint)
                continue
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                _log.error("network.save_failed", error=error)
            self.written += 1

    def _write(self, file: Path, value: msgspec.Struct) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            fresh.unlink(missing_ok=True)
            fresh.touch(0o600)  # it has the keys of encrypted networks
            fresh.write_bytes(msgspec.json.encode(value))
            fresh.replace(file)
        except OSError as error:
            _log.error("network.save_failed", error=error)
        self.written += 1
