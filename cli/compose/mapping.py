"""The stack that the project's files define. SHELL: reads files."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from cli.compose import flags, project
from cli.compose.names import ordered
from pyswarm_core.errors import invalid
from pyswarm_core.validation.ranges import RANGES

if TYPE_CHECKING:
    from compose.mapping.mapped import Mapped
    from compose.model import Loaded


class Files(NamedTuple):
    """The files of a project, as a model and as a stack."""

    loaded: "Loaded"
    mapped: "Mapped"

    @property
    def name(self) -> str:
        """The name of the project."""
        return self.mapped.spec.name

    def with_needed(self, names: Iterable[str]) -> tuple[str, ...]:
        """The services and those that they depend on, the needed ones first; without names all."""
        services = self.loaded.model["services"]
        needs = {name: tuple(one.get("depends_on", {})) for name, one in services.items()}
        waiting, found = list(names) or list(services), dict[str, None]()
        while waiting:
            name = waiting.pop()
            if name in services and name not in found:
                found[name] = None
                waiting += needs[name]
        return tuple(ordered(found, needs))

    def chosen(self, names: Collection[str]) -> tuple[str, ...]:
        """The services of these names; without names all."""
        return tuple(name for name in self.mapped.services if not names or name in names)


def read(services: tuple[str, ...] = (), scales: Mapping[str, int] | None = None) -> Files:
    """The files of this invocation; naming a service enables its profiles. Warnings are printed.

    Raises compose.report.Refused with every fault, InvalidArgument.
    """
    from compose.files import Disk
    from compose.mapping.mapped import Options
    from compose.mapping.stack import stack_of
    from compose.report import Refused

    disk = Disk()
    loaded = flags.load(project.wanted(services), told=False, disk=disk)
    try:
        mapped = stack_of(loaded, Options(scales=scales or {}), disk)
        disk.expect_unchanged()
    except Refused as error:
        flags.print_remarks("Error", error.faults[:-1])
        raise Refused(error.faults[-1:]) from None
    return Files(loaded, mapped)


def scales_of(texts: Iterable[str]) -> dict[str, int]:
    """`web=3` as a service and its number of replicas. Raises InvalidArgument."""
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name:
            raise invalid("--scale", text, "expected SERVICE=NUMBER, as in web=3")
        found[name] = int(RANGES["--replicas"].read("--scale", number))
    return found
