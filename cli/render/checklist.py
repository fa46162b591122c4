"""Which items of the usual security check-list a service follows. PURE.

An item that the spec leaves to the image is unknown: only the image says it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from cli.render.listing import Layout, Row
from pyswarm_core.docker.isolation import security
from pyswarm_core.docker.units import format_cpus, human_size
from pyswarm_core.identity.audit import SECRET_NAMES
from pyswarm_core.specs import ContainerSpec, ServiceSpec, TaskSpec
from pyswarm_core.validation.isolation import has_user_namespace

YES, NO, UNKNOWN = "yes", "no", "unknown"

_SECRET = re.compile(SECRET_NAMES, re.IGNORECASE)
_ROOT = ("0", "root")


LAYOUT = Layout(
    {
        "Service": "SERVICE",
        "Check": "CHECK",
        "Followed": "FOLLOWED",
        "Found": "FOUND",
        "Advice": "ADVICE",
    },
    ("Service", "Check", "Followed", "Found", "Advice"),
)


class Item(NamedTuple):
    """One item of the list."""

    check: str
    followed: str
    """`yes`, `no` or `unknown`."""
    found: str
    """What the service has."""
    advice: str = ""
    """Flags of `service update`, if it is not followed."""


def rows(spec: ServiceSpec) -> list[Row]:
    """The rows of a service's list."""
    return [
        {"Service": spec.name, **{key.capitalize(): text for key, text in item._asdict().items()}}
        for item in items(spec)
    ]


def items(spec: ServiceSpec, image_user: str | None = None) -> Iterator[Item]:
    """The items in the order of the check-list. `image_user`: the image's USER; None: not known."""
    template = spec.task_template
    container = template.container_spec
    yield _user(container, image_user)
    yield _item(
        "read-only root",
        container.read_only,
        "read-only" if container.read_only else "writable",
        "--read-only --tmpfs-add /tmp",
    )
    yield from _limits(template)
    yield _privileges(container)
    dropped = "ALL" in map(str.upper, container.capability_drop)
    added = ", ".join(container.capability_add)
    yield _item(
        "capabilities dropped",
        dropped and not container.privileged,
        f"only {added or 'none'}"
        if dropped
        else "Docker's defaults" + (f", {added}" * bool(added)),
        "--cap-drop ALL --cap-add …",
    )
    yield _host(template)
    yield _secrets(container)
    yield _health(container)
    pinned = "@sha256:" in container.image
    image = "fixed by its digest" if pinned else "a tag, which may change"
    yield _item("image fixed", pinned, image, f"--image {container.image.partition('@')[0]}")


def _item(check: str, followed: bool, found: str, advice: str) -> Item:
    return Item(check, YES if followed else NO, found, "" if followed else advice)


def _user(container: ContainerSpec, image_user: str | None) -> Item:
    check, advice = "not root", "--user …, or --userns auto"
    if has_user_namespace(container):
        return _item(check, True, "ids of its own (--userns auto)", advice)
    user = container.user or image_user
    if user is None:
        return Item(check, UNKNOWN, "the image's user", advice)
    name = user.partition(":")[0]
    return _item(check, bool(name) and name not in _ROOT, f"user {name or 'root'}", advice)


def _limits(template: TaskSpec) -> Iterator[Item]:
    limits = template.resources.limits
    memory = human_size(limits.memory_bytes) if limits.memory_bytes else "no limit"
    cpus = format_cpus(limits.nano_cpus) if limits.nano_cpus else "no limit"
    yield _item("memory limit", limits.memory_bytes > 0, memory, "--limit-memory 512m")
    yield _item("CPU limit", limits.nano_cpus > 0, cpus, "--limit-cpu 1")
    processes = str(limits.pids) if limits.pids else "no limit"
    yield _item("process limit", limits.pids > 0, processes, "--limit-pids 100")


def _privileges(container: ContainerSpec) -> Item:
    chosen = security.read(container.security_opt).no_new_privileges
    forbidden = not container.privileged if chosen is None else chosen
    found = "set-user-id programs gain nothing" if forbidden else "set-user-id programs work"
    return _item("no new privileges", forbidden, found, "--security-opt-add no-new-privileges")


def _host(template: TaskSpec) -> Item:
    opened = [f"{flag} {value}" for flag, value in security.powers(template.container_spec)]
    opened += ["--network host" for each in template.networks if each.target == "host"]
    found = ", ".join(opened) or "no option that opens the host"
    return _item("closed to its host", not opened, found, "remove these options")


def _secrets(container: ContainerSpec) -> Item:
    names = [entry.partition("=")[0] for entry in container.env]
    secret = [name for name in names if _SECRET.search(name) and not name.upper().endswith("_FILE")]
    variables = [one.env for one in container.secrets if one.env]
    found = ", ".join((*secret, *variables)) or "no such name"
    advice = [f"--env-rm {name}" for name in secret]
    advice += [f"--secret-env-rm {name}" for name in variables]
    return _item("no secrets in environment", not (secret or variables), found, " ".join(advice))


def _health(container: ContainerSpec) -> Item:
    test = container.healthcheck.test
    if not test:
        return Item("health check", UNKNOWN, "the image's, if it has one", "--health-cmd …")
    disabled = test[0] == "NONE"
    found = "disabled" if disabled else " ".join(test[1:])
    return _item("health check", not disabled, found, "--health-cmd …")
