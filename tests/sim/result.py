"""How one run ended."""

import msgspec

from tests.sim.options import Options
from tests.sim.rules import Violation


class Result(msgspec.Struct):
    """How a run ended."""

    seed: int
    violations: list[Violation]
    digest: str
    story: list[str]
    marks: dict[str, int]
    options: Options
    events: int
    seconds: float
