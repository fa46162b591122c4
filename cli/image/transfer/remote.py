"""The HTTP API of a registry other than the fleet's, for search. SHELL.

Authentication is the distribution's: Basic, or a token of the realm that the registry names.
"""

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from typing import Any

from cli.image.transfer import skopeo
from cli.image.transfer.search import LIMIT_MAX, Found
from cli.image.transfer.sources import following, said
from pyswarm_core.docker.reference import DEFAULT_REGISTRY
from pyswarm_core.errors import Unavailable, reason_of
from pyswarm_core.specs import RegistryLogin

_TIMEOUT_S = 30.0
_BYTES_MAX = 16 * 1024 * 1024
_PAGES_MAX = 100
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_HUB = "index.docker.io"


class Remote:
    """One registry, with the user's login for it."""

    def __init__(self, registry: str, login: RegistryLogin | None) -> None:
        host = _HUB if registry == DEFAULT_REGISTRY else registry
        scheme = "http" if skopeo.tls(registry, "") else "https"
        self._base = f"{scheme}://{host}"
        self._login = login
        self._token = ""

    def search(self, word: str) -> list[Found]:
        """The repositories whose names have the word. Raises Unavailable."""
        query = urllib.parse.urlencode({"q": word, "n": LIMIT_MAX})
        try:
            document, _ = self._get(f"/v1/search?{query}")
            return [_found(one) for one in document.get("results") or ()]
        except NoSuchPath:
            return [Found(name) for name in self._catalog() if word in name]

    def _catalog(self) -> list[str]:
        found: list[str] = []
        path = "/v2/_catalog?n=1000"
        for _ in range(_PAGES_MAX):
            document, path = self._get(path)
            found += [one for one in document.get("repositories") or () if isinstance(one, str)]
            if not path:
                break
        return sorted(found)

    def _get(self, path: str, *, again: bool = True) -> tuple[dict[str, Any], str]:
        """The document at a path, and the path of the next page."""
        request = urllib.request.Request(f"{self._base}{path}")
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        elif self._login is not None:
            request.add_unredirected_header("Authorization", f"Basic {_pair(self._login)}")
        try:
            return _read(request)
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code == 401 and again and challenge.lower().startswith("bearer "):
                self._token = self._authorized(challenge)
                return self._get(path, again=False)
            content = error.read(_BYTES_MAX)
            if error.code == 404:
                raise NoSuchPath(said(content)) from None
            raise Unavailable(f"it answers {error.code}: {said(content)}") from None

    def _authorized(self, challenge: str) -> str:
        """A token of the realm in the registry's challenge."""
        fields = dict(_PARAMETER.findall(challenge))
        realm = fields.pop("realm", "")
        if not realm.startswith(("https://", f"{self._base}/")):
            raise Unavailable(f"it names a realm that is not https: {realm}")
        request = urllib.request.Request(f"{realm}?{urllib.parse.urlencode(fields)}")
        if self._login is not None:
            request.add_unredirected_header("Authorization", f"Basic {_pair(self._login)}")
        try:
            document, _ = _read(request)
        except urllib.error.HTTPError as error:
            text = said(error.read(_BYTES_MAX))
            raise Unavailable(f"{realm} answers {error.code}: {text}") from None
        return str(document.get("token") or document.get("access_token") or "")


class NoSuchPath(Unavailable):
    """The registry has no such API."""


def _read(request: urllib.request.Request) -> tuple[dict[str, Any], str]:
    """The document of an answer, and the path of the next page. Raises HTTPError, Unavailable."""
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            document = json.loads(answer.read(_BYTES_MAX))
            path = following(answer.headers.get("Link", ""))
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        reason = error.reason
        raise Unavailable(
            reason_of(reason) if isinstance(reason, OSError) else f"{reason}"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(reason_of(error) if isinstance(error, OSError) else f"{error}") from None
    except ValueError:
        document, path = None, ""
    if not isinstance(document, dict):
        raise Unavailable("it sends no JSON: it is no registry, or a proxy answers for it")
    return document, path


def _found(one: dict[str, Any]) -> Found:
    return Found(
        name=str(one.get("name", "")),
        description=str(one.get("description") or ""),
        star_count=int(one.get("star_count") or 0),
        is_official=bool(one.get("is_official")),
        is_automated=bool(one.get("is_automated")),
    )


def _pair(login: RegistryLogin) -> str:
    return b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")
