"""A measured figure with its bound, and the table of all figures. PURE.

A benchmark is a module of this folder with `measure(quick: bool) -> Iterable[Figure]`. `quick`
selects sizes that show only that it runs. It yields each figure as soon as it is measured.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """A measurement and its bound; None: no bound."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False
    """Whether the bound is a minimum; otherwise it is a maximum."""
    against: str = "target"
    """The origin of the bound: a target, or a multiple of a peer's or the floor's figure."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over bound."""
        return self.value / self.bound if self.bound else None

    @property
    def verdict(self) -> str:
        """`met`, `short`, or "" without a bound."""
        if self.bound is None:
            return ""
        met = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "met" if met else "short"


def faster(name: str, ours: float, theirs: float, unit: str, bound: float) -> Figure:
    """The ratio of a figure of which less is better: the peer's over ours."""
    return _beside(name, theirs / ours, bound, (ours, theirs, unit))


def ahead(name: str, ours: float, theirs: float, unit: str, bound: float) -> Figure:
    """The ratio of a figure of which more is better: ours over the peer's."""
    return _beside(name, ours / theirs, bound, (ours, theirs, unit))


def _beside(name: str, gain: float, bound: float, seen: tuple[float, float, str]) -> Figure:
    ours, theirs, unit = seen
    note = f"{_number(ours)} {unit}; Docker Swarm {_number(theirs)} {unit}"
    return Figure(name, gain, "x", bound, at_least=True, against="Swarm", note=note)


HEADINGS = ("FIGURE", "MEASURED", "BOUND", "RATIO", "VERDICT", "NOTE")


def table(figures: Iterable[Figure]) -> str:
    """All figures in aligned columns."""
    return _aligned([HEADINGS, *map(cells, figures)])


def line(figure: Figure) -> str:
    """The line of one figure, printed before the table."""
    return "  ".join(filter(None, cells(figure)))


def cells(figure: Figure) -> tuple[str, ...]:
    """The cells of a figure, one per heading."""
    bound = ""
    if figure.bound is not None:
        sign = ">=" if figure.at_least else "<="
        bound = f"{sign} {_number(figure.bound)} {figure.unit}".rstrip() + f" ({figure.against})"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    measured = f"{_number(figure.value)} {figure.unit}".rstrip()
    return (figure.name, measured, bound, ratio, figure.verdict, figure.note)


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
