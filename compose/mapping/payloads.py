"""Secrets and configs, and what services use of them. PURE but for `Files`."""

from collections.abc import Iterator, Mapping
from typing import Any

from compose.mapping.problems import text_of
from compose.mapping.scope import Scope, Service
from compose.text.words import octal
from compose.tree import Node, Path
from pyswarm_core.errors import InvalidArgument, reason_of
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.payloads.references import (
    DEFAULT_MODE,
    SECRETS_DIRECTORY,
    ConfigReference,
    FileTarget,
    SecretReference,
)
from pyswarm_core.payloads.templates import require_template
from pyswarm_core.stacks.spec import StackPayload
from pyswarm_core.validation import payload_problems
from pyswarm_core.volumes.mounts import Driver

_KINDS: Mapping[str, str] = {"secrets": "secret", "configs": "config"}


def payloads(scope: Scope, section: str) -> Iterator[StackPayload]:
    """The secrets or configs that the stack makes, with their data."""
    for key, node in scope.objects[section].items():
        if node.get("external") is None:
            data = _data(scope, section, key, node)
            spec = PayloadSpec(
                name=scope.named(section, key),
                labels=scope.labels(node.get("labels")),
                templating=_templating(node),
            )
            if data is not None:
                _check(scope, section, key, spec, data)
                yield StackPayload(spec=spec, data=data)
    if section == "configs":
        yield from scope.made_configs.values()


def _templating(node: Node) -> Driver | None:
    name = node.text("template_driver")
    return Driver(name=name) if name else None


def _data(scope: Scope, section: str, key: str, node: Node) -> bytes | None:
    """The data; None after a fault."""
    content = node.get("content")
    if content is not None:
        return str(content.value).encode(errors="surrogateescape")
    if (variable := node.get("environment")) is not None:
        if (value := scope.variables.get(variable.value)) is not None:
            return value.encode(errors="surrogateescape")
        text = f"the variable {variable.value} is not set: set it in the shell or in .env"
        scope.report.fault(variable, (section, key, "environment"), text)
        return None
    if (file := node.get("file")) is None:
        return None
    try:
        return scope.files.read(file.value)
    except OSError as error:
        text = f"{file.value} cannot be read: {reason_of(error, named=file.value)}"
        scope.report.fault(file, (section, key, "file"), text)
        return None


def _check(scope: Scope, section: str, key: str, spec: PayloadSpec, data: bytes) -> None:
    kind, node = _KINDS[section], scope.objects[section][key]
    for problem in payload_problems(kind, spec, len(data)):
        below = _OF_FIELDS.get(problem.field.removeprefix(f"{kind} "), ())
        where = next((found for one in below if (found := node.get(one)) is not None), node)
        path: Path = (section, key, *(one for one in below if node.get(one) is where))
        scope.report.fault(where, path, text_of(problem))
    if spec.templating is not None:
        try:
            require_template(spec.name, data)
        except InvalidArgument as error:
            scope.report.fault(node, (section, key), str(error))


_OF_FIELDS: Mapping[str, tuple[str, ...]] = {
    "name": ("name",),
    "data": ("file", "content", "environment"),
    "--label": ("labels",),
    "--template-driver": ("template_driver",),
}
"""Field of a problem -> keys that may set it."""


def secrets(service: Service) -> tuple[SecretReference, ...]:
    """The secrets of a service, below /run/secrets by their names there."""
    found = []
    for number, node in enumerate(service.node.list("secrets")):
        source = service.scope.named("secrets", node.text("source"))
        own = service.scope.own_keys(node, service.at("secrets", number), "env")
        if (variable := own.get("env")) is not None:
            file, env = FileTarget(name="", mode=0), str(variable.value)
            found.append(SecretReference(secret_name=source, file=file, env=env))
            continue
        target = (node.text("target") or node.text("source")).removeprefix(f"{SECRETS_DIRECTORY}/")
        found.append(SecretReference(secret_name=source, file=_file(node, target)))
    return tuple(found)


def configs(service: Service) -> tuple[ConfigReference, ...]:
    """The configs of a service."""
    return tuple(
        ConfigReference(
            config_name=service.scope.named("configs", node.text("source")),
            file=_file(node, node.text("target") or node.text("source")),
        )
        for node in service.node.list("configs")
    )


def _file(node: Node, target: str) -> FileTarget:
    found: dict[str, Any] = {key: node.text(key) for key in ("uid", "gid") if node.text(key)}
    mode = octal(node.text("mode")) if node.text("mode") else None
    return FileTarget(name=target, mode=DEFAULT_MODE if mode is None else mode, **found)
