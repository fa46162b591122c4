"""The fleet's registries: whether they have an image, asked before any other registry. SHELL.

One request answers, without a process: most images are not there. A registry that does not answer
is passed over, at once for a while, so that its loss delays no pull of other images much.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agent.images.base import Credentials, ImageError, RegistryUnavailable
from agent.images.endpoint import Endpoint, FleetAccess
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.controlplane import split_address
from pyswarm_core.docker.reference import Reference
from pyswarm_core.errors import InvalidArgument, reason_of
from pyswarm_core.registry.limits import REGISTRY_ANSWER_S
from pyswarm_core.registry.names import repository_of

_log = EventLog("agent.images.fleet")

PASSED_OVER_S = 5.0
"""A registry that did not answer is not asked again for this long."""
NODES_USER = "node"
_HEAD_BYTES_MAX = 64 * 1024
_ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json,"
    "application/vnd.docker.distribution.manifest.list.v2+json,"
    "application/vnd.oci.image.manifest.v1+json,application/vnd.oci.image.index.v1+json"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class FleetRegistries:
    """What the last controller sent, and what is known of it. `folder` gets the file of the roots
    that skopeo trusts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._addresses: tuple[str, ...] = ()
        self._access = FleetAccess()
        self._tls: ssl.SSLContext | None = None
        self._roots = ""
        self._silent: dict[str, tuple[float, str]] = {}
        """Registries that are passed over: until when, and why."""

    def changed(self, addresses: tuple[str, ...], password: str, roots: str) -> None:
        """A controller sent these."""
        if addresses != self._addresses:
            _log.info("registries.changed", addresses=",".join(addresses))
        self._addresses = addresses
        self._silent.clear()
        login = Credentials(username=NODES_USER, password=password)
        self._access = FleetAccess(login=login, certificates=str(self._folder))
        if addresses and roots != self._roots:
            self._trust(roots)

    def places(self, reference: Reference) -> list[Endpoint]:
        """The registries that may have the image."""
        found = []
        for address in self._addresses:
            with suppress(InvalidArgument):  # no such name can be there
                found.append(
                    Endpoint(
                        source=_source(address, reference),
                        repository=f"{address}/{repository_of(reference)}",
                        registry=address,
                        verify_tls=True,
                        own=False,
                        fleet=self._access,
                    )
                )
        return found

    async def having(
        self, reference: Reference
    ) -> tuple[list[tuple[Endpoint, str]], list[tuple[Endpoint, ImageError]]]:
        """The first registry that has the image, with its digest there; and those that were passed
        over, with the reason.
        """
        passed: list[tuple[Endpoint, ImageError]] = []
        for place in self.places(reference):
            try:
                digest = await self._digest(place.registry, reference)
            except ImageError as error:
                passed.append((place, error))
                continue
            if digest:
                return [(place, digest)], passed
        return [], passed

    async def _digest(self, address: str, reference: Reference) -> str:
        """The digest of the image there; empty if it is not. Raises RegistryUnavailable."""
        if self._tls is None:
            why = f"this node has no root certificate for the fleet's registry {address}"
            raise RegistryUnavailable(why)
        now = asyncio.get_running_loop().time()
        until, why = self._silent.get(address, (0.0, ""))
        if now < until:
            raise RegistryUnavailable(why)
        try:
            async with asyncio.timeout(REGISTRY_ANSWER_S):
                status, headers = await self._head(address, reference)
        except TimeoutError:
            why = f"the fleet's registry {address} did not answer within {REGISTRY_ANSWER_S:g} s"
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else "it sent no answer"
            why = f"the fleet's registry {address} did not answer: {reason}"
        else:
            digest = headers.get("docker-content-digest", "")
            if status == 404:
                return ""
            if status == 200 and _DIGEST.fullmatch(digest):
                return digest
            why = f"the fleet's registry {address} answered with status {status}"
        self._silent[address] = (now + PASSED_OVER_S, why)
        _log.warning("registry.passed_over", registry=address, reason=why)
        raise RegistryUnavailable(why)

    async def _head(self, address: str, reference: Reference) -> tuple[int, Mapping[str, str]]:
        """Ask for the manifest's head. Raises OSError."""
        where = split_address(address)
        if where is None:
            raise OSError(f"{address} is no HOST:PORT")
        host, port = where
        reader, writer = await asyncio.open_connection(
            host, port, ssl=self._tls, server_hostname=host, limit=_HEAD_BYTES_MAX
        )
        try:
            writer.write(_request(address, reference, self._access.login))
            raw = await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.transport.abort()
        first, *lines = raw.decode("latin-1").split("\r\n")
        parts = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in parts}
        words = first.split(" ")
        status = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
        return status, headers

    def _trust(self, roots: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cadata=roots)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._folder / "ca.new"
            fresh.write_text(roots)
            fresh.replace(self._folder / "ca.crt")
        except (OSError, ValueError) as error:
            _log.warning("registries.untrusted", error=error)
            return
        self._tls, self._roots = context, roots


def _source(address: str, reference: Reference) -> str:
    return f"{address}/{repository_of(reference)}{_which(reference, '@', ':')}"


def _which(reference: Reference, at: str, colon: str) -> str:
    return f"{at}{reference.digest}" if reference.digest else f"{colon}{reference.tag}"


def _request(address: str, reference: Reference, login: Credentials | None) -> bytes:
    pair = f"{login.username}:{login.password}" if login else ""
    shown = base64.b64encode(pair.encode()).decode("ascii")
    return (
        f"HEAD /v2/{repository_of(reference)}/manifests/{_which(reference, '', '')} HTTP/1.1\r\n"
        f"Host: {address}\r\nAuthorization: Basic {shown}\r\nAccept: {_ACCEPT}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
