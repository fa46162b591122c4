"""Validation of templates in the specs of services. PURE.

A spec is checked as it is for one of its tasks, after its templates were expanded for an example.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import REPLICAS_MAX
from pyswarm_core.specs import ContainerSpec, ServiceSpec
from pyswarm_core.templates.context import Context, expand, require, shows_plainly, task_context
from pyswarm_core.templates.specs import (
    LABELS,
    SLOT,
    Template,
    expand_of_mount,
    expanded,
    has_templates,
    templates_of,
)
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem, at_most
from pyswarm_core.validation.volumes import mount_problems
from pyswarm_core.volumes.mounts import Mount

TEMPLATES_MAX = 256
TEMPLATES_LENGTH_MAX = 10_000
"""Characters of all templates of a service: controllers read them while nothing else runs, which
takes up to 3 us for each.
"""
_OF_SLOT = frozenset({".Service.ID", ".Service.Name", LABELS, SLOT})
"""What is known of a task before its node is, and is the same for the next task of its slot."""
OF_NODE = frozenset(
    {".Node.ID", ".Node.Hostname", ".Node.Platform.OS", ".Node.Platform.Architecture"}
)
"""What is known of the slots of a global service, which belong to nodes."""


def expands(spec: ServiceSpec) -> bool:
    """Whether the spec has templates. Docker expands none of containers."""
    return not spec.mode.is_container and has_templates(spec.task_template.container_spec)


def template_problems(spec: ServiceSpec) -> list[Problem]:
    """The problems of its templates; empty if they can be expanded."""
    container = spec.task_template.container_spec
    templates = list(templates_of(container))
    found = list(at_most("--env, --mount and --hostname", templates, TEMPLATES_MAX))
    if (length := sum(len(one.text) for one in templates)) > TEMPLATES_LENGTH_MAX:
        expected = f"expected at most {TEMPLATES_LENGTH_MAX} characters in all of its templates"
        found.append(Problem("--env, --mount and --hostname", length, expected, "length"))
    if found:
        return found
    for one in templates:
        found += _problem(one, None)
    allowed = _OF_SLOT | OF_NODE if spec.mode.per_node else _OF_SLOT
    if found:
        return found
    for mount in container.mounts:
        if mount.volume and not shows_plainly(mount.source, SLOT):
            expected = f"expected {SLOT} by itself in the name of a volume: data-{{{{{SLOT}}}}}"
            found.append(Problem("--mount", mount.source, expected, "template"))
        for text_of_volume in _of_volume(mount):
            found += _problem(Template("--mount", text_of_volume, text_of_volume), allowed)
    if found:
        return found
    for one in templates:
        found += _expansion_problem(one, spec)
    return found


def example(spec: ServiceSpec) -> ServiceSpec:
    """The spec with its templates expanded for a task. Raises InvalidArgument."""
    container = expanded(spec.task_template.container_spec, _example(spec))
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def _example(spec: ServiceSpec) -> Context:
    return task_context(
        service_id="0" * 25,
        service_name=spec.name,
        service_labels=spec.labels,
        task_id="0" * 25,
        slot=REPLICAS_MAX,
        is_global=spec.mode.per_node,
        node_id="0" * 25,
        hostname="node",
        os="linux",
        architecture="amd64",
    )


def expanded_problems(spec: ContainerSpec) -> Iterable[Problem]:
    """The problems of what was expanded in a container's spec."""
    yield from text.env_problems(spec.env, removes=True)
    yield from text.hostname_problems("--hostname", spec.hostname)
    yield from mount_problems(spec)


def _of_volume(mount: Mount) -> Iterable[str]:
    """The templates that decide which volume is mounted and made."""
    if mount.volume:
        options = mount.volume_options
        yield mount.source
        if options is not None:
            yield from options.labels.values()
            yield from options.driver_config.options.values()


def _expansion_problem(one: Template, spec: ServiceSpec) -> Iterable[Problem]:
    try:
        if one.flag == "--mount":
            expand_of_mount(one.text, _example(spec))
        else:
            expand(one.flag, one.text, _example(spec), shown=one.shown)
    except InvalidArgument as error:
        yield Problem(one.flag, one.shown, error.reason, "template")


def _problem(one: Template, allowed: frozenset[str] | None) -> Iterable[Problem]:
    try:
        require(one.flag, one.text, allowed, shown=one.shown)
    except InvalidArgument as error:
        yield Problem(one.flag, one.shown, error.reason, "template")
