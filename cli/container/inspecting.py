"""How `inspect` finds objects of every kind by name. SHELL."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from cli import session
from cli.client import Client
from cli.container import calls
from cli.image.finding import inspected
from cli.inspection import Networks, is_template, network_document
from cli.node.self_ import node_of
from cli.task.inspect import checks_of
from cli.volume.inspect import document_of
from pyswarm_core.docker import documents, images, objects
from pyswarm_core.docker.containers.document import Inspected, of_container
from pyswarm_core.docker.containers.views import SIZE_UNKNOWN
from pyswarm_core.errors import NotFound, PermissionDenied, no_such_container, shown
from pyswarm_core.kinds import CONFIG, SECRET, STACK, USER
from pyswarm_core.payloads.documents import of_payload

Document = dict[str, Any]
_LISTINGS = {"task": "pyswarm ps --all"}
"""The command that lists the objects of a kind, where it is not `pyswarm KIND ls`."""
_WHOLE = ("container", "network", "volume", "image")
"""The kinds whose documents are Docker's, with their empty fields."""


def show(names: Sequence[str], form: str, kinds: Sequence[str], *, with_size: bool) -> None:
    """Print the documents; raise NotFound in Docker's words with all names that do not exist."""
    client = session.connect()
    reader = _Reader(client, whole=is_template(form), with_size=with_size)
    found: list[Document] = []
    missing = []
    for name in names:
        try:
            found.append(reader.read(name, kinds))
        except NotFound as error:
            missing.append(str(error))
    if found or not form:
        for line in documents.show(found, form, whole=True):
            click.echo(line)
    if missing:
        raise NotFound("; ".join(missing))


class _Reader:
    """Reads the documents of one command, `whole` for templates; each network is read once."""

    def __init__(self, client: Client, *, whole: bool, with_size: bool) -> None:
        self._client, self._whole = client, whole
        self._with_size = with_size
        self._networks = Networks(client)
        self._of: Mapping[str, Callable[[str], Document]] = {
            "config": lambda ref: of_payload(client.object(CONFIG, ref)),
            "container": self._container,
            "image": self._image,
            "network": lambda ref: network_document(client, ref, whole=whole),
            "node": lambda ref: objects.of_node(node_of(client, ref)),
            "secret": lambda ref: of_payload(client.object(SECRET, ref)),
            "service": self._service,
            "stack": lambda ref: documents.document(client.object(STACK, ref)),
            "task": self._task,
            "user": lambda ref: documents.document(client.object(USER, ref)),
            "volume": lambda ref: document_of(client, ref),
        }

    def read(self, name: str, kinds: Sequence[str]) -> Document:
        """The first object of that name; without empty fields unless Docker's document has them."""
        for kind in kinds:
            try:
                document = self._of[kind](name)
            except NotFound as error:
                if "ambiguous" in str(error) or kinds == ("container",):
                    raise
                continue
            except PermissionDenied:
                if len(kinds) == 1:
                    raise
                continue  # such as users, for callers who may not read them
            is_done = self._whole or kind in _WHOLE
            return document if is_done else documents.without_unset(document)
        if len(kinds) == 1:
            listing = _LISTINGS.get(kinds[0], f"pyswarm {kinds[0]} ls")
            raise NotFound(f"No such {kinds[0]}: {shown(name)}: `{listing}` lists all {kinds[0]}s")
        expected = f"expected a {', '.join(kinds[:-1])} or {kinds[-1]}"
        raise NotFound(f"No such object: {shown(name)}: {expected}")

    def _container(self, ref: str) -> Document:
        named = calls.named(self._client, ref)
        if named.is_service:
            raise no_such_container(ref)
        checks = checks_of(self._client, named.task) if named.task else ()
        found = Inspected(named.service, named.task, named.networks, tuple(checks))
        document = of_container(found, self._networks.addresses)
        return document | self._sizes(document["Id"]) if self._with_size else document

    def _sizes(self, container_id: str) -> Document:
        """Docker's fields; null if the node did not measure."""
        found = calls.containers(
            self._client, every=True, filters=(f"id={container_id}",), size=True
        )
        known = found[0] if found and found[0].size_rw != SIZE_UNKNOWN else None
        return {
            "SizeRw": known.size_rw if known else None,
            "SizeRootFs": known.size_root_fs if known else None,
        }

    def _service(self, ref: str) -> Document:
        return objects.of_service(self._client.service(ref), self._networks.addresses)

    def _task(self, ref: str) -> Document:
        found = self._client.tasks(tasks=(ref,))
        if not found:
            raise NotFound(f"No such task: {ref}")
        checks = checks_of(self._client, found[0])
        return objects.of_task(found[0], self._networks.addresses, checks)

    def _image(self, ref: str) -> Document:
        return images.document(inspected(self._client, ref))
