"""Applying a stack and waiting for its services: `stack deploy` and `compose up`. SHELL."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import click
import msgspec

from cli import converge
from cli.converge import Watched
from cli.render.plans import done, plan_lines
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.kinds import SERVICE, STACK
from pyswarm_core.specs import RegistryLogin, ServiceSpec
from pyswarm_core.stacks.changes import Action, ApplyStack, StackChange, StackReply
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.stacks.validation import stack_problems
from pyswarm_core.validation import payload_problems, require, service_problems

if TYPE_CHECKING:
    from cli.client import Client

LEFTOVERS_S = 120.0
"""How long an apply waits for the removal of the stack that had the name."""
UNPLACED_S = 30.0
"""How long a wait goes on while nothing but the lack of a node holds it up."""
POLL_S = 0.5


class HasSpec(Protocol):
    """What the Compose files were mapped to."""

    @property
    def spec(self) -> StackSpec:
        """The stack."""
        ...


class ApplyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to apply a stack, and how long to wait."""

    prune: bool = False
    reset_scale: bool = False
    rescaled: tuple[str, ...] = ()
    """Services whose numbers of replicas are set, by full names."""
    services: tuple[str, ...] = ()
    """Full names; empty: all."""
    recreate: tuple[str, ...] = ()
    """Full names of services whose tasks are replaced although nothing changed."""
    resolve_image: str = "always"
    with_registry_auth: bool = False
    plan: bool = False
    """Print what would change, and change nothing."""
    detach: bool = False
    """Do not wait until the services run."""
    quiet: bool = False
    timeout_s: float = 0.0
    """How long to wait; 0: until it is decided."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed."""

    reply: StackReply
    services: tuple[StackChange, ...] = ()
    """Those of its services that it has now."""


def apply(
    client: "Client",
    mapped: HasSpec,
    options: ApplyOptions,
    tell: Callable[[Sequence[StackChange]], None] = lambda changes: None,
) -> Applied:
    """Apply the stack; print what changed, which `tell` gets too, and wait until its services run.

    Raises InvalidArgument before anything changes, Conflict, ConvergenceFailed (a service fails, or
    was rolled back), NotConverged (interrupted, or the time is over).
    """
    from cli.stack import calls

    spec = mapped.spec
    check(spec)
    request = ApplyStack(
        spec=spec,
        dry_run=options.plan,
        prune=options.prune,
        reset_scale=options.reset_scale,
        rescaled=options.rescaled,
        services=options.services,
        recreate=options.recreate,
        logins=_logins(spec.services) if options.with_registry_auth else (),
        resolve_image=options.resolve_image,
    )
    reply = _without_leftovers(client, request, calls.apply)
    for warning in reply.warnings:
        click.echo(warning, err=True)
    tell(reply.changes)
    return follow(client, reply, options)


def follow(client: "Client", reply: StackReply, options: ApplyOptions) -> Applied:
    """Print what the answer says, and wait for the services."""
    if options.plan:
        for line in plan_lines(reply.changes):
            click.echo(line)
        return Applied(reply=reply)
    if not options.quiet:
        for line in done(reply.changes):
            click.echo(line)
    services = tuple(
        one for one in reply.changes if one.kind == SERVICE.name and one.action != Action.REMOVED
    )
    removed = [one for one in reply.changes if one.action == Action.REMOVED]
    if not options.detach:
        wait(client, services, options)
        _until_gone(client, removed, options)
    return Applied(reply=reply, services=services)


def check(spec: StackSpec) -> None:
    """Raise InvalidArgument for a stack that no controller would accept."""
    require(stack_problems(spec))
    for service in spec.services:
        try:
            require(service_problems(service))
        except InvalidArgument as error:
            raise InvalidArgument(f"service {service.name}: {error}") from None
    for kind, payloads in (("secret", spec.secrets), ("config", spec.configs)):
        for one in payloads:
            try:
                require(payload_problems(kind, one.spec, len(one.data)))
            except InvalidArgument as error:
                raise InvalidArgument(f"{kind} {one.spec.name}: {error}") from None


def wait(client: "Client", services: Sequence[StackChange], options: ApplyOptions) -> None:
    """Wait until these services run. Those that did not change are looked at once, together."""
    changed = [one for one in services if one.action not in (Action.UNCHANGED, Action.KEPT)]
    same = [one for one in services if one not in changed]
    if same:
        running = {
            one.service.id
            for one in client.services([f"id={one.id}" for one in same])
            if one.running >= one.desired and not one.service.is_updating
        }
        changed += [one for one in same if one.id not in running]
    if changed:
        watched = [Watched(one.id, one.name, one.spec_version, one.paused) for one in changed]
        converge.until_converged(
            client,
            watched,
            quiet=options.quiet,
            timeout_s=options.timeout_s,
            unplaced_s=UNPLACED_S,
        )


def _until_gone(client: "Client", removed: Sequence[StackChange], options: ApplyOptions) -> None:
    services = [Watched(one.id, one.name) for one in removed if one.kind == SERVICE.name]
    if services:
        converge.until_gone(client, services, quiet=options.quiet)


def until_removed(client: "Client", name: str) -> None:
    """Return when the stack is gone, after its services."""
    while True:
        try:
            client.object(STACK, name)
        except NotFound:
            return
        time.sleep(POLL_S / 5)


def _without_leftovers(client: "Client", request: ApplyStack, call: "_Call") -> StackReply:
    """The answer; while the stack of that name is still being removed, the apply waits."""
    give_up_at = time.monotonic() + LEFTOVERS_S
    told = False
    while True:
        try:
            return call(client, request)
        except Conflict as error:
            if "is being removed" not in str(error) or time.monotonic() > give_up_at:
                raise
            if not told:
                name = request.spec.name
                click.echo(f"waiting until the former stack {name} is removed", err=True)
                told = True
            time.sleep(POLL_S)


class _Call(Protocol):
    def __call__(self, client: "Client", request: ApplyStack) -> StackReply: ...


def _logins(services: Sequence[ServiceSpec]) -> tuple[RegistryLogin, ...]:
    """The user's login for each registry of the images."""
    from cli.service.spec.logins import requested
    from pyswarm_core.docker.reference import parse_reference

    find = requested(flag=True)
    first: dict[str, ServiceSpec] = {}
    for service in services:
        registry = parse_reference(service.task_template.container_spec.image).registry
        first.setdefault(registry, service)
    return tuple(login for login in map(find, first.values()) if login is not None)
