"""The project of a verb, and what the fleet has of it. SHELL.

Its services, containers and volumes are found by their label. So a project needs no file when
--project-name or COMPOSE_PROJECT_NAME names it.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from cli import session
from cli.compose import flags, verb
from cli.compose.names import of_project
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, quoted, similar

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.members import Held, Member
    from compose.model import Loaded
    from compose.projects import Request


class Project(msgspec.Struct, frozen=True):
    """A project, its files if there are any, and its services."""

    name: str
    loaded: "Loaded | None"
    client: "Client"
    members: "tuple[Member, ...]"
    """In the order of their names; without containers of `compose run`."""

    @property
    def own(self) -> "tuple[Member, ...]":
        """The services that the files define; without files all."""
        if self.loaded is None:
            return self.members
        defined = self.loaded.model["services"]
        return tuple(member for member in self.members if member.name in defined)

    @property
    def orphans(self) -> "tuple[Member, ...]":
        """The services that the files do not define."""
        known = self.own
        return tuple(member for member in self.members if member not in known)

    def chosen(self, names: Iterable[str], *, orphans: bool = False) -> "tuple[Member, ...]":
        """The services of these names; without names those of the files, or also the others.

        Raises InvalidArgument for a name that neither the files nor the fleet have.
        """
        given = tuple(dict.fromkeys(names))
        if not given:
            return self.members if orphans else self.own
        by_name = {member.name: member for member in self.members}
        if unknown := [name for name in given if name not in by_name]:
            self._require_defined(unknown)
        return tuple(by_name[name] for name in given if name in by_name)

    def containers(
        self, names: Iterable[str] = (), *, every: bool = False, oneoff: bool = False
    ) -> "list[Held]":
        """The running containers of these services; with `every` also the last one of each slot
        that has ended, with `oneoff` those of `compose run`.
        """
        from cli.compose.members import held
        from cli.container import calls

        given = tuple(names)
        self.chosen(given)
        found = calls.containers(self.client, every=every, filters=(of_project(self.name),))
        return [
            one
            for one in held(self.name, found, self.members)
            if (not given or one.service in given) and (one.number or oneoff)
        ]

    def one(
        self, name: str, index: int = 0, *, every: bool = False, oneoff: bool = False
    ) -> "Held":
        """The running container of a service: that of the index, or the first one. With `every`
        also one that has ended.

        Raises InvalidArgument, Conflict, NotFound.
        """
        found = self.containers((name,), every=every, oneoff=oneoff)
        for each in found:
            if index in (0, each.number):
                return each
        if not found:
            raise Conflict(f"service {quoted(name)} is not running{self._why(name)}")
        numbers = ", ".join(str(each.number) for each in found)
        raise NotFound(f"--index: service {name} has no container {index}: it has {numbers}")

    def _why(self, name: str) -> str:
        full = [one.service.spec.name for one in self.members if one.name == name]
        return f": `pyswarm why {full[0]}` says why" if full else ""

    def _require_defined(self, names: Sequence[str]) -> None:
        if self.loaded is None:
            known = [member.name for member in self.members]
            raise InvalidArgument(f"no such service: {names[0]}{similar(names[0], known)}")
        defined = self.loaded.model["services"]
        if hidden := tuple(name for name in names if name not in defined):
            flags.load(wanted(hidden), told=False)  # refuses a name that no profile hides


def wanted(services: tuple[str, ...] = ()) -> "Request":
    """What the flags of this invocation ask to load."""
    return flags.request(click.get_current_context(), services=services, **verb.given())


def opened() -> Project:
    """The project of this invocation, with its services on the fleet.

    Raises InvalidArgument for files that cannot be loaded, unless the name is given.
    """
    name, loaded = named()
    return of(session.connect(), name, loaded)


def of(client: "Client", name: str, loaded: "Loaded | None") -> Project:
    """The project as it is on the fleet now."""
    from cli.compose.members import members

    return Project(name, loaded, client, members(name, client.services((of_project(name),))))


def named() -> "tuple[str, Loaded | None]":
    """The name of the project, and its files."""
    from compose.projects import normalized

    asked = wanted()
    explicit = asked.project_name or os.environ.get("COMPOSE_PROJECT_NAME", "")
    try:
        loaded = flags.load(asked, told=False)
    except InvalidArgument as error:
        if not explicit or normalized(explicit) != explicit or asked.files:
            raise
        if not str(error).startswith("--file:"):
            click.echo(f"Warning: the files do not count: {error}", err=True)
        return explicit, None
    return str(loaded.model["name"]), loaded
