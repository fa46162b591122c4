"""How `run` and `create` make a container. SHELL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from cli import session
from cli.client import Client
from cli.container import thishost
from cli.container.spec.mapping import label_lines, problems, spec_of
from cli.service.spec import digests, logins, mount_options, reference_options
from cli.service.spec.template import put
from pyswarm_core.clock import Instant
from pyswarm_core.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    invalid,
    quoted,
)
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.validation import require

STREAMS = ("stdin", "stdout", "stderr")


class Created(msgspec.Struct, frozen=True):
    """A container, and the client that made it."""

    client: Client
    service: Service


def created(
    given: Mapping[str, Any],
    own: Mapping[str, str],
    *,
    stopped: bool = False,
    attach_by: Instant | None = None,
) -> Created:
    """Make the container, and its --cidfile. With `attach_by` its program starts once a client is
    attached, at the latest then.

    Raises InvalidArgument, AlreadyExists.
    """
    cidfile = given["cidfile"]
    if cidfile and Path(cidfile).exists():
        raise InvalidArgument(
            f"--cidfile: {quoted(cidfile)} exists: make sure the other container is not running,"
            " or delete the file"
        )
    _require_streams(given)
    if not given["disable_content_trust"]:
        expected = "expected true: signatures of images are not verified"
        raise invalid("--disable-content-trust", "false", expected)
    if given["pull"] == "never":
        expected = "expected always or missing: the node pulls an image that it lacks"
        raise invalid("--pull", "never", expected)
    spec = replace(spec_of(given, own, _labels(given)), stopped=stopped)
    spec, local = thishost.resolved(spec)
    if attach_by is not None:
        spec = put(spec, "task_template.container_spec.attach_by", attach_by)
    named = spec if spec.name else replace(spec, name="chosen-by-the-controller")
    require(problems(named, given))
    mount_options.tell(given["volume"])
    reference_options.tell(given["secret_env"])
    login = logins.requested(given["with_registry_auth"])(spec)
    client = session.connect()
    _require_node(client, given["node"])
    spec = thishost.pinned(client, spec, local)
    query = given["pull"] == "always"
    with digests.lookup(spec, announced=query and not given["quiet"]):
        service = _made(client, spec, login, query=query, publish_all=_publishes_all(spec, given))
    if cidfile:
        _write(cidfile, service.id)
    return Created(client, service)


def _publishes_all(spec: ServiceSpec, given: Mapping[str, Any]) -> bool:
    """Whether the image's ports are to be published: as in Docker not on networks without ports."""
    joined = [one.target for one in spec.task_template.networks]
    return bool(given["publish_all"]) and not {"host", "none"}.intersection(joined)


def _made(
    client: Client, spec: ServiceSpec, login: Any, *, query: bool, publish_all: bool
) -> Service:
    try:
        service, warnings = client.create_service(
            spec, login, query_registry=query, publish_all=publish_all
        )
    except NotFound as error:
        if not str(error).startswith("network "):
            raise
        listing = "`pyswarm network ls` lists all networks"
        raise NotFound(f"--network: {error}: {listing}") from None
    except AlreadyExists as error:
        if not str(error).startswith("service "):
            raise
        holder = str(error).rpartition(" ")[2]
        raise AlreadyExists(
            f'Conflict. The container name "{spec.name}" is already in use by container'
            f' "{holder}". You have to remove (or rename) that container to be able to reuse'
            " that name."
        ) from None
    digests.warn(warnings)
    return service


def _require_node(client: Client, node: str | None) -> None:
    """Raise NotFound at once: with an unknown node the container would wait for ever."""
    if not node:
        return
    try:
        client.node(node)
    except NotFound as error:
        raise NotFound(f"--node: {error}: `pyswarm node ls` lists all nodes") from None
    except PermissionDenied:
        return  # a user of a stack lists no nodes


def _require_streams(given: Mapping[str, Any]) -> None:
    for word in given["attach"]:
        if word.lower() not in STREAMS:
            raise invalid("--attach", word, "expected stdin, stdout or stderr")


def require_run_options(given: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for flags of `run` that exclude each other, in Docker's words."""
    if given["detach"] and given["attach"]:
        raise InvalidArgument("Conflicting options: -a and -d")


def _labels(given: Mapping[str, Any]) -> list[str]:
    found = []
    for path in given["label_file"]:
        source = f"--label-file {quoted(path)}"
        try:
            found += label_lines(source, Path(path).read_bytes())
        except OSError as error:
            raise InvalidArgument(f"{source} cannot be read: {error.strerror}") from None
    return found


def _write(path: str, container_id: str) -> None:
    try:
        Path(path).write_text(container_id)
    except OSError as error:
        raise InvalidArgument(f"--cidfile: {quoted(path)}: {error.strerror}") from None
