"""Keeps a host's plan on disk: networks and published ports in one file, each endpoint in a file
beside it, so that a changed endpoint costs its own. SHELL.
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
    """The files. What cannot be read or written is logged: the controller tells it again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.written = 0
        """Files written or removed so far."""

    def load(self) -> SavedPlan:
        """What was kept; of the endpoints also those of one file, as earlier agents kept them."""
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
        """Keep these networks and ports, and no others."""
        self._write(self._path, kept)

    def save_endpoints(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """Keep these endpoints as they are now; None: not any more."""
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
            fresh.write_bytes(msgspec.json.encode(value))
            fresh.replace(file)
        except OSError as error:
            _log.error("network.save_failed", error=error)
        self.written += 1
