"""What `up`, `create`, `scale` and `run` make of the files: builds, images, the stack. SHELL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec
from msgspec.structs import replace

from cli.compose import externals, flags, localbinds, notices, project, uploads
from cli.compose.deploying import images
from cli.compose.mapping import Files
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.stacks.changes import Action, StackChange
from pyswarm_core.stacks.spec import StackSpec

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.members import Member
    from cli.compose.project import Project
    from cli.stack.applying import Applied
    from compose.mapping.mapped import Mapped
    from pyswarm_core.stacks.changes import StackReply

PULLS = ("policy", "always", "missing", "never", "build")
"""Values of --pull; `policy`: as `pull_policy` says."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say."""

    services: tuple[str, ...] = ()
    """Empty: all."""
    build: bool = False
    no_build: bool = False
    pull: str = "policy"
    force_recreate: bool = False
    always_recreate_deps: bool = False
    no_recreate: bool = False
    no_deps: bool = False
    remove_orphans: bool = False
    stopped: bool = False
    """Create services without starting them."""
    quiet_build: bool = False
    dry_run: bool = False
    started: tuple[str, ...] = ()
    """Services that have failed or completed, and are started again."""
    scales: Mapping[str, int] = {}
    """`--scale`: the replicas of services."""


class Stack(NamedTuple):
    """The stack to apply."""

    mapped: "Mapped"
    resolve: str
    """Which images the controller looks up."""

    @property
    def spec(self) -> StackSpec:
        """The specs."""
        return self.mapped.spec


def selected(files: Files, asked: Asked) -> tuple[str, ...]:
    """The services that are applied, the needed ones first."""
    if asked.services and asked.no_deps:
        return files.chosen(asked.services)
    return files.with_needed(asked.services)


def apply(client: "Client", files: Files, asked: Asked) -> "Applied":
    """Build what is to be built, and make the fleet's services what the files say. Returns at once;
    `wait` waits.

    Raises PyswarmError.
    """
    from cli.stack.applying import Applied, ApplyOptions
    from cli.stack.applying import apply as apply_stack

    opened = project.of(client, files.name, files.loaded)
    names = selected(files, asked)
    if not names:
        raise _nothing_selected(files)
    stack = prepared(opened, files, asked, names)
    full = files.mapped.services
    known = {member.service.spec.name for member in opened.members}
    chosen = [full[name] for name in names if not asked.no_recreate or full[name] not in known]
    if not chosen:
        return _with_kept(opened, asked, names, Applied(reply=_nothing()))
    is_whole = len(chosen) == len(full)
    options = ApplyOptions(
        prune=asked.remove_orphans and is_whole,
        rescaled=tuple(full[name] for name in names if name in asked.scales),
        services=() if is_whole else tuple(chosen),
        recreate=tuple(full[name] for name in recreated(asked, names)),
        resolve_image=stack.resolve,
        with_registry_auth=_has_logins(stack.spec),
        plan=asked.dry_run,
        detach=True,
        quiet=True,
    )
    applied = apply_stack(
        client, stack, options, lambda changes: notices.tell(stack.mapped, changes)
    )
    if not asked.dry_run and not flags.is_quiet():
        _tell(applied.reply.changes)
    if asked.remove_orphans and opened.orphans and not is_whole:
        _remove_orphans(opened)
    if not asked.dry_run:
        _until_gone(client, applied.reply.changes)
    own = tuple(one for one in applied.services if one.name in chosen)
    return _with_kept(opened, asked, names, replace(applied, services=own))


def _with_kept(
    opened: "Project", asked: Asked, names: Sequence[str], applied: "Applied"
) -> "Applied":
    """With the services that `--no-recreate` leaves as they are, and that are started."""
    from cli.compose.deploying import kept

    if not asked.no_recreate or asked.stopped:
        return applied
    members = [one for one in opened.members if one.name in names]
    begun = kept.begun(opened.client, members, asked)
    return replace(applied, services=(*applied.services, *begun))


def wait(client: "Client", applied: "Applied", timeout_s: float = 0.0) -> None:
    """Wait until the services are started, and healthy if they have a check, or have completed.

    Raises ConvergenceFailed, NotConverged.
    """
    from cli.stack.applying import ApplyOptions
    from cli.stack.applying import wait as wait_for

    wait_for(client, applied.services, ApplyOptions(quiet=flags.is_quiet(), timeout_s=timeout_s))


def recreated(asked: Asked, names: Sequence[str]) -> tuple[str, ...]:
    """The services whose tasks are replaced although nothing changed."""
    if asked.force_recreate:
        all_ = asked.always_recreate_deps or not asked.services
        found = tuple(name for name in names if all_ or name in asked.services)
    elif asked.always_recreate_deps:
        found = tuple(name for name in names if name not in asked.services)
    else:
        found = ()
    return tuple(name for name in names if name in found or name in asked.started)


def prepared(opened: "Project", files: Files, asked: Asked, names: Sequence[str]) -> Stack:
    """The stack with the images of the services."""
    full = files.mapped.services
    externals.require(opened.client, files.mapped, names)
    deployed = {member.service.spec.name: member for member in opened.members}
    built = _built(opened.client, files, asked, names)
    now = SystemClock().now()
    fresh = [
        full[name]
        for name in names
        if name not in files.mapped.builds
        and images.is_due(_policy(files, asked, name), deployed.get(full[name]), now)
    ]
    mapped = localbinds.pinned(opened.client, files.mapped, names)
    wanted = {one.name: one for one in mapped.spec.services}
    found = images.choice(
        wanted, deployed, {full[name]: digest for name, digest in built.items()}, fresh
    )
    services = tuple(_placed(one, found, deployed.get(name), asked) for name, one in wanted.items())
    if not asked.dry_run:
        uploads.upload(opened.client, mapped, quiet=flags.is_quiet())
    mapped = replace(mapped, spec=replace(mapped.spec, services=services))
    return Stack(mapped, found.resolve)


def _placed(
    spec: ServiceSpec, found: images.Choice, member: "Member | None", asked: Asked
) -> ServiceSpec:
    if (image := found.images.get(spec.name)) is not None:
        container = replace(spec.task_template.container_spec, image=image)
        spec = replace(spec, task_template=replace(spec.task_template, container_spec=container))
    if asked.stopped:
        is_stopped = member is None or member.service.spec.stopped
        spec = replace(spec, stopped=is_stopped)
    return spec


def _policy(files: Files, asked: Asked, name: str) -> str:
    if asked.pull != "policy":
        return asked.pull
    return files.mapped.pull_policies.get(name, "missing")


def _built(client: "Client", files: Files, asked: Asked, names: Collection[str]) -> dict[str, str]:
    """The digests of the images of builds, which are made if the fleet's registry lacks them, or
    the flags or `pull_policy: build` ask for it.
    """
    from cli.compose.images import building

    builds = {name: one for name, one in files.mapped.builds.items() if name in names}
    if not builds:
        return {}
    known = building.digests(client, {name: one.image for name, one in builds.items()})
    due = {
        name: one
        for name, one in builds.items()
        if asked.build
        or (name not in known and not asked.no_build)
        or _policy(files, asked, name) == images.BUILD
    }
    if due and not asked.dry_run:
        made = building.Asked(quiet=asked.quiet_build or flags.is_quiet())
        known |= building.build_all(client, due, made)
    return known


def _has_logins(spec: StackSpec) -> bool:
    """Whether this user has a login for a registry of the images."""
    import os

    from cli.service.spec.logins import login_for
    from pyswarm_core.docker.reference import Reference, parse_reference

    registries: dict[str, Reference] = {}
    for one in spec.services:
        reference = parse_reference(one.task_template.container_spec.image)
        registries.setdefault(reference.registry, reference)
    try:
        return any(login_for(one, os.environ) is not None for one in registries.values())
    except PyswarmError as error:
        click.echo(f"warning: {error}", err=True)
        return False


def _tell(changes: Iterable[StackChange]) -> None:
    """Print what changed, with Compose's names of flags."""
    from cli.render.plans import done

    shown = [
        replace(
            one,
            reason=one.reason.replace("--prune", "--remove-orphans").replace(
                "--reset-scale", "`up --scale` sets it"
            ),
        )
        for one in changes
        if one.kind != "volume" or one.action is not Action.KEPT
    ]
    for line in done(shown):
        click.echo(line, err=True)


def _remove_orphans(opened: "Project") -> None:
    from cli.compose.lifecycle import ending
    from cli.failures import Failures

    with Failures() as failures:
        ending.removed(opened, opened.orphans, failures)


def _until_gone(client: "Client", changes: Iterable[StackChange]) -> None:
    """Wait until the services that left the files are gone."""
    from cli import converge
    from cli.converge import Watched

    removed = [
        Watched(one.id, one.name)
        for one in changes
        if one.kind == "service" and one.action is Action.REMOVED
    ]
    if removed:
        converge.until_gone(client, removed, quiet=flags.is_quiet())


def _nothing_selected(files: Files) -> InvalidArgument:
    if profiles := files.mapped.profiles:
        given = f"all have profiles: --profile enables those of {', '.join(profiles)}"
    else:
        given = "the files define none"
    return InvalidArgument(f"no service selected: {given}")


def _nothing() -> "StackReply":
    from pyswarm_core.stacks.changes import StackReply

    return StackReply()
