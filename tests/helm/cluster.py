"""An API server of Kubernetes that has some Secrets, for the chart's `lookup`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.helm.rendering import NAMESPACE, Object

SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets/"
_RESOURCE = {"name": "secrets", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
_DISCOVERY: dict[str, Object] = {
    "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [_RESOURCE]},
}
_MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}


class _Api(BaseHTTPRequestHandler):
    documents: Mapping[str, Object]

    def do_GET(self) -> None:
        found = self.documents.get(self.path.partition("?")[0])
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(found or _MISSING | {"code": 404}).encode())

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows standard error."""


@contextmanager
def _api_server(documents: Mapping[str, Object]) -> Iterator[str]:
    """The URL of an API server that has these documents, by path."""
    handler = type("Api", (_Api,), {"documents": {**_DISCOVERY, **documents}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def cluster(*secrets: Object) -> Iterator[str]:
    """The kubeconfig of a cluster that has these Secrets."""
    with _api_server({f"{SECRETS}{each['metadata']['name']}": each for each in secrets}) as url:
        yield json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
