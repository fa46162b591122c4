"""Where the spec of a container has templates, and the spec of one task. PURE.

The container of `run` and `create` has none: Docker expands templates in services alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from pyswarm_core.specs import ContainerSpec
from pyswarm_core.templates.context import (
    STEPS_OF_MOUNT,
    TEXT_OF_MOUNT,
    Context,
    expand,
    is_template,
    names,
)
from pyswarm_core.volumes.mounts import Mount

LABELS = ".Service.Labels"
SLOT = ".Task.Slot"
ANY_SLOT = "\0"
"""Stands for a slot, which the name of a volume only shows (validation/templates/problems.py)."""


class Template(NamedTuple):
    """A template in a spec."""

    flag: str
    text: str
    shown: str
    """The text in errors; of a variable its name: the value may be a secret."""


def templates_of(spec: ContainerSpec) -> Iterator[Template]:
    """The templates of a service's container."""
    for variable in spec.env:
        name, _, value = variable.partition("=")
        if is_template(value):
            yield Template("--env", value, name)
    if is_template(spec.hostname):
        yield Template("--hostname", spec.hostname, spec.hostname)
    for mount in spec.mounts:
        for text in texts_of_mount(mount):
            if is_template(text):
                yield Template("--mount", text, text)


def has_templates(spec: ContainerSpec) -> bool:
    """Whether the spec has a template."""
    return next(templates_of(spec), None) is not None


def names_labels(spec: ContainerSpec) -> bool:
    """Whether a template reads the service's labels; all templates are valid."""
    return any(names(one.text, LABELS) for one in templates_of(spec))


def expanded(spec: ContainerSpec, context: Context) -> ContainerSpec:
    """The container of one task. Raises InvalidArgument."""
    if not has_templates(spec):
        return spec
    return replace(
        spec,
        env=tuple(_env(spec.env, context)),
        hostname=expand("--hostname", spec.hostname, context),
        mounts=tuple(expanded_mount(mount, context) for mount in spec.mounts),
    )


def expanded_mount(mount: Mount, context: Context) -> Mount:
    """The mount of one task. Raises InvalidArgument."""
    if not any(map(is_template, texts_of_mount(mount))):
        return mount
    return replace(expanded_volume(mount, context), target=expand_of_mount(mount.target, context))


def expanded_volume(mount: Mount, context: Context) -> Mount:
    """The mount with what decides which volume it shows, and makes; its target stays."""
    options = mount.volume_options
    if options is not None:
        driver = options.driver_config
        driver = replace(driver, options=_map(driver.options, context))
        options = replace(options, labels=_map(options.labels, context), driver_config=driver)
    return replace(
        mount,
        source=expand_of_mount(mount.source, context),
        volume_options=options,
    )


def expand_of_mount(text: str, context: Context) -> str:
    """The text in a mount for one task. Raises InvalidArgument."""
    return expand("--mount", text, context, text_max=TEXT_OF_MOUNT, steps_max=STEPS_OF_MOUNT)


def of_any_slot(volumes: Iterable[str], context: Context) -> list[str]:
    """The names of volumes, with ANY_SLOT for the slot."""
    anywhere = replace(context, slot=ANY_SLOT)
    return [expand_of_mount(name, anywhere) for name in volumes]


def texts_of_mount(mount: Mount) -> Iterator[str]:
    """What may be a template in a mount."""
    yield from (mount.source, mount.target)
    if mount.volume_options is not None:
        yield from mount.volume_options.labels.values()
        yield from mount.volume_options.driver_config.options.values()


def _map(texts: Mapping[str, str], context: Context) -> dict[str, str]:
    return {key: expand_of_mount(text, context) for key, text in texts.items()}


def _env(env: Iterable[str], context: Context) -> Iterator[str]:
    for text in env:
        name, equals, value = text.partition("=")
        yield f"{name}{equals}{expand('--env', value, context, shown=name)}"
