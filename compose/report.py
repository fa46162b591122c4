"""What is wrong with a project, and what its author should know. PURE."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from compose.limits import FAULTS_SHOWN
from compose.tree import Node, Path, Place, shown_path
from pyswarm_core.errors import InvalidArgument, similar

_COMPARED_MAX = 1_000


class Remark(NamedTuple):
    """A fault, a notice or a warning: `FILE:LINE:COLUMN: services.web.image: text`."""

    place: Place | None
    path: str
    text: str

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.place, self.path, self.text) if part)


class Refused(InvalidArgument):
    """Files that cannot be loaded; the text is one line, `faults` has them all."""

    def __init__(self, faults: Iterable[Remark]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__("; ".join(str(fault) for fault in self.faults[:FAULTS_SHOWN]))


class Report:
    """Collects the remarks of one load."""

    def __init__(self) -> None:
        self.faults: list[Remark] = []
        self.notices: list[Remark] = []
        """What the author may not expect; `--strict` refuses them."""
        self.warnings: list[Remark] = []
        """What has always been tolerated: a variable that is not set, an obsolete key."""
        self.ports = 0
        """Ports that the files of the project have, for their limit."""

    def fault(self, where: Node | Place | None, path: Path, text: str) -> None:
        """Something that cannot be loaded; others may follow before `check` raises."""
        self.faults.append(_remark(where, path, text))
        if len(self.faults) >= FAULTS_SHOWN:
            self.check()

    def notice(self, where: Node | Place | None, path: Path, text: str) -> None:
        """Something that the author may not expect."""
        _add(self.notices, _remark(where, path, text))

    def warn(self, where: Node | Place | None, path: Path, text: str) -> None:
        """Something that is tolerated."""
        _add(self.warnings, _remark(where, path, text))

    def check(self) -> None:
        """Raise Refused if there was a fault."""
        if self.faults:
            raise Refused(self.faults)


def near(word: str, words: Iterable[str]) -> str:
    """`; did you mean web?`, to follow a fault. Only so many words are compared."""
    return similar(word, islice(words, _COMPARED_MAX))


def refusal(where: Node | Place | None, path: Path, text: str) -> Refused:
    """The error of one fault after which nothing can be read."""
    return Refused([_remark(where, path, text)])


def _remark(where: Node | Place | None, path: Path, text: str) -> Remark:
    place = where.place if isinstance(where, Node) else where
    return Remark(place, shown_path(path), text)


def _add(remarks: list[Remark], remark: Remark) -> None:
    if remark not in remarks[-64:]:
        remarks.append(remark)
