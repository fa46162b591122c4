"""buildah's output as steps of a Dockerfile. PURE.

buildah prints `[1/2] STEP 3/5: RUN make` before a step, without its line in the file. A program
that prints such a line itself is not mistaken for buildah unless it prints the next step's.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from pyswarm_core.docker.building.dockerfile import Dockerfile, Instruction

TAIL_LINES = 200
"""Lines of a step's output that are kept for a failure."""
_STEP = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)(?:/(\d+))?: (.*)")
_COMMIT = re.compile(r"(?:\[\d+/\d+\] )?COMMIT( .*)?")
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_CACHED = "--> Using cache "
_ERROR = re.compile(r"building at STEP \"(?P<step>.*?)\": (?P<reason>.*)")
_ENDING = re.compile(
    r"Error: .*|subprocess exited with (?:status|signal).*|exit status \d+"
    r"|time=\S+ level=error msg=\"exit status.*"
)


class Kind(Enum):
    """What a line of the output is."""

    STEP = "a step begins"
    CACHED = "the step's result is in the cache"
    OUTPUT = "a line of the step's program, or of buildah"
    COMMIT = "the last step is complete"
    ENDING = "what buildah prints of a failed step, whose error has it too"


class Step(NamedTuple):
    """One step, as it is shown."""

    label: str
    """`builder 3/5`, or `3/5` with one stage."""
    text: str
    line: int
    """In the Dockerfile; 0: none, as that of `--label`."""


class Event(NamedTuple):
    """What one line means."""

    kind: Kind
    text: str = ""
    step: Step | None = None
    """Which begins."""


class Transcript:
    """Follows the output line by line.

    Stages run at the same time, each one step after another; one that copies from another waits.
    """

    def __init__(self, file: Dockerfile, target: str) -> None:
        self._stages = file.until(target)
        self._reached: dict[int, int] = {}
        self._begun: list[Step] = []
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """The last lines since a step began, without buildah's own."""

    def feed(self, line: str) -> Event:
        """What the line means."""
        found = _STEP.fullmatch(line)
        if found and (step := self._next(found)) is not None:
            self._begun.append(step)
            self.tail.clear()
            return Event(Kind.STEP, line, step)
        if line.startswith(_CACHED):
            return Event(Kind.CACHED, line)
        if _COMMIT.fullmatch(line):
            return Event(Kind.COMMIT, line)
        self.tail.append(line)
        return Event(Kind.ENDING if _ENDING.fullmatch(line) else Kind.OUTPUT, line)

    def failed(self, error: str) -> Step | None:
        """The step that buildah's error is about; else the last one."""
        found = _ERROR.match(error)
        named = found["step"].strip() if found else ""
        same = (step for step in reversed(self._begun) if step.text == named)
        return next(same, self._begun[-1] if self._begun else None)

    def _next(self, found: re.Match[str]) -> Step | None:
        stage, number = int(found[1] or len(self._stages)), int(found[2])
        if not 1 <= stage <= len(self._stages) or number != self._reached.get(stage, 0) + 1:
            return None
        self._reached[stage] = number
        one = self._stages[stage - 1]
        label = f"{number}/{found[3]}" if found[3] else str(number)
        if len(self._stages) > 1:
            label = f"{f'stage-{one.name}' if one.name.isdecimal() else one.name} {label}"
        text = found[4].strip()
        if number == 1:
            # buildah prints the id of an earlier stage's image.
            is_id = bool(_ID.search(text))
            return Step(label, one.start.text.strip() if is_id else text, one.start.line)
        return Step(label, text, _place(one.steps, number - 2, text))


def _place(steps: Sequence[Instruction], expected: int, text: str) -> int:
    """The line of a step; instructions of a base image's ONBUILD come before the file's."""
    order: Iterable[Instruction] = (*steps[expected : expected + 1], *steps)
    return next((step.line for step in order if step.text.strip() == text), 0)


def cause(error: str) -> str:
    """The reason in buildah's error, without the step, which is shown beside it."""
    found = _ERROR.match(error)
    text = found["reason"] if found else error
    for prefix in ("while running runtime: ", "running runtime: "):
        text = text.removeprefix(prefix)
    return text.strip()


def excerpt(file: Dockerfile, line: int, around: int = 2) -> list[str]:
    """The lines about a step, with a mark at the step's own."""
    end = line
    while end < len(file.lines) and file.lines[end - 1].rstrip().endswith("\\"):
        end += 1
    first, last = max(line - around, 1), min(end + around, len(file.lines))
    last -= last > end and not file.lines[last - 1].strip()
    width = len(str(last))
    rule = "-" * 20
    shown = [
        f" {number:>{width}} | {'>>>' if line <= number <= end else '   '} "
        f"{file.lines[number - 1]}".rstrip()
        for number in range(first, last + 1)
    ]
    return [f"{file.name}:{line}", rule, *shown, rule]


def own_output(tail: Iterable[str]) -> list[str]:
    """The step's output without what buildah adds when it fails."""
    lines = [line for line in tail if not _ENDING.fullmatch(line)]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
