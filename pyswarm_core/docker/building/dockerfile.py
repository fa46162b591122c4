"""Dockerfiles: their instructions with lines, stages and base images. PURE.

It reads lines as buildah's parser does, so that an instruction's text is the one that buildah
prints when it runs it. What an instruction does is buildah's; here are its place and the mistakes
that buildah reports late, or without a line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pyswarm_core.docker.building import heredocs
from pyswarm_core.errors import InvalidArgument, invalid, quoted, similar

INSTRUCTIONS = tuple(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL"
    " STOPSIGNAL USER VOLUME WORKDIR".split()
)
LAYERED = ("ADD", "COPY", "RUN")
"""The instructions that make a layer."""
LINE_BYTES_MAX = 65536
"""buildah ignores the rest of a file after a longer line."""
SCRATCH = "scratch"

_ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=[ \t]*(.).*", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#[ \t]*\w+[ \t]*=")
_FLAG = re.compile(r"--[^\s]*")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^}]*))?\})")


class Instruction(NamedTuple):
    """One instruction."""

    name: str
    """In upper case."""
    text: str
    """The whole line, continued lines joined."""
    line: int
    """The first line in the file, from 1."""
    flags: tuple[str, ...] = ()
    """`--from=builder`, as written."""
    words: str = ""
    """What follows the flags."""


class Stage(NamedTuple):
    """FROM and the instructions after it."""

    start: Instruction
    base: str
    """As written; may have variables."""
    name: str
    """In lower case, or its number."""
    steps: tuple[Instruction, ...] = ()


class Dockerfile(NamedTuple):
    """A whole file."""

    name: str
    """As errors call it."""
    heading: tuple[Instruction, ...]
    """ARGs before the first FROM."""
    stages: tuple[Stage, ...]
    heredocs: tuple[Instruction, ...] = ()
    """Instructions with a heredoc."""
    lines: tuple[str, ...] = ()

    def until(self, target: str) -> tuple[Stage, ...]:
        """The stages up to the target, as buildah numbers them. Raises InvalidArgument."""
        if not target:
            return self.stages
        for number, stage in enumerate(self.stages, 1):
            if target.lower() in (stage.name, str(number - 1)):
                return self.stages[:number]
        names = [stage.name for stage in self.stages]
        expected = f"expected a stage of {self.name}: {', '.join(names)}{similar(target, names)}"
        raise invalid("--target", target, expected)

    def layers(self, target: str = "") -> int:
        """How many layers the instructions make, without those of the base image."""
        made: dict[str, int] = {}
        last = 0
        for number, stage in enumerate(self.until(target)):
            own = sum(step.name in LAYERED for step in stage.steps)
            last = made.get(stage.base.lower(), 0) + own
            made[stage.name] = made[str(number)] = last
        return last

    def images(self, given: Mapping[str, str], target: str = "") -> tuple[str, ...]:
        """The images that the stages may take, base images and those of `--from`, in order."""
        values = heading_values(self.heading, given)
        found: dict[str, None] = {}
        earlier = {SCRATCH}
        for number, stage in enumerate(self.until(target)):
            sources = [expanded(stage.base, values), *_sources(stage.steps)]
            for source in sources:
                if source.lower() not in earlier and "$" not in source:
                    found.setdefault(source)
            earlier |= {stage.name, str(number)}
        return tuple(found)


def heading_values(heading: Sequence[Instruction], given: Mapping[str, str]) -> dict[str, str]:
    """The values of ARGs before the first FROM; those of `--build-arg` win."""
    values: dict[str, str] = {}
    for instruction in heading:
        for word in instruction.words.split():
            name, equals, default = word.partition("=")
            if name in given:
                values[name] = given[name]
            elif equals:
                values[name] = expanded(default.strip("\"'"), values)
    return values


def expanded(text: str, values: Mapping[str, str]) -> str:
    """The text with `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}` replaced."""

    def value(found: re.Match[str]) -> str:
        name, sign, word = found[1] or found[2], found[3] or "", found[4] or ""
        known = values.get(name, "")
        word = _VARIABLE.sub(value, word)
        if sign.endswith("-"):
            return known or word
        if sign.endswith("+"):
            return word if known else ""
        return known

    return _VARIABLE.sub(value, text)


def parse_dockerfile(text: str, name: str = "Dockerfile") -> Dockerfile:
    """Raises InvalidArgument that names the line and what is expected there."""
    reader = _Reader(text, name)
    instructions = list(reader)
    if not instructions:
        raise InvalidArgument(f"{name} has no instructions: expected FROM IMAGE first")
    heading = []
    stages: list[Stage] = []
    for instruction in instructions:
        if instruction.name == "FROM":
            stages.append(_stage(instruction, len(stages), name))
        elif stages:
            last = stages[-1]
            stages[-1] = last._replace(steps=(*last.steps, instruction))
        elif instruction.name == "ARG":
            heading.append(instruction)
        else:
            raise _wrong(name, instruction, "expected FROM IMAGE before it; only ARG may precede")
    if not stages:
        raise InvalidArgument(f"{name} has no FROM: expected FROM IMAGE [AS STAGE]")
    return Dockerfile(
        name, tuple(heading), tuple(stages), tuple(reader.heredocs), tuple(reader.lines)
    )


class _Reader:
    """The instructions of a file, one by one."""

    def __init__(self, text: str, name: str) -> None:
        self.heredocs: list[Instruction] = []
        self.lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
        self._name = name
        self._escape = self._directive()
        self._continued = re.compile(re.escape(self._escape) + r"[ \t]*\Z")
        self._at = 0

    def __iter__(self) -> Iterator[Instruction]:
        while self._at < len(self.lines):
            start = self._at + 1
            text = self._joined()
            if not text.strip():
                continue
            instruction = _instruction(text, start, self._name)
            bodies = heredocs.end_of(instruction.text, self.lines[self._at :])
            if instruction.name in (*LAYERED, "ONBUILD") and bodies is not None:
                self.heredocs.append(instruction)
                self._at += bodies
            yield instruction

    def _joined(self) -> str:
        """The next line with those that continue it; empty for a comment."""
        joined = ""
        is_first = True
        while self._at < len(self.lines):
            line = self.lines[self._at]
            self._at += 1
            if len(line.encode(errors="surrogateescape")) >= LINE_BYTES_MAX:
                limit = f"a line has more than {LINE_BYTES_MAX - 1} bytes"
                raise InvalidArgument(f"{self._name}:{self._at}: {limit}")
            is_empty = not line.strip() or line.lstrip().startswith("#")
            if is_empty and is_first:
                return ""
            if is_empty:
                continue
            line = line.lstrip() if is_first else line
            is_first = False
            shorter = self._continued.sub("", line)
            joined += shorter
            if shorter == line:
                break
        return joined

    def _directive(self) -> str:
        """The escape character that the lines before the first other one set."""
        for line in self.lines:
            found = _ESCAPE.fullmatch(line.strip())
            if found and found[1] in "\\`":
                return found[1]
            if not _DIRECTIVE.match(line.strip()):
                break
        return "\\"


def _instruction(text: str, line: int, file: str) -> Instruction:
    first, _, rest = text.strip().partition(" ")
    word, _, tabbed = first.partition("\t")
    rest = f"{tabbed} {rest}".strip() if tabbed else rest.strip()
    name = word.upper()
    if name not in INSTRUCTIONS:
        close = similar(name, INSTRUCTIONS)
        expected = f"expected one of {', '.join(INSTRUCTIONS)}{close}"
        raise invalid(f"{file}:{line}", word, expected, "instruction")
    flags = []
    while found := _FLAG.match(rest):
        flags.append(found[0])
        rest = rest[found.end() :].lstrip()
    instruction = Instruction(name, text, line, tuple(flags), rest)
    if not rest:
        raise _wrong(file, instruction, "expected at least one argument")
    if name in ("ENV", "LABEL"):
        _check_pairs(instruction, file)
    return instruction


def _check_pairs(instruction: Instruction, file: str) -> None:
    """KEY=VALUE…, or the old `KEY VALUE`."""
    words = _words(instruction.words)
    if "=" in words[0]:
        for word in words:
            if "=" not in word:
                expected = f"expected KEY=VALUE in place of {quoted(word)}; quote what has spaces"
                raise _wrong(file, instruction, expected)
    elif len(words) < 2:
        raise _wrong(file, instruction, f"expected KEY=VALUE in place of {quoted(words[0])}")


def _words(text: str) -> list[str]:
    """The words of a line; quotes and escapes hold spaces together."""
    return re.findall(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|["'\\])+""", text)


def _stage(instruction: Instruction, number: int, file: str) -> Stage:
    words = instruction.words.split()
    match [*words]:
        case [base]:
            return Stage(instruction, base, str(number))
        case [base, middle, name] if middle.lower() == "as":
            return Stage(instruction, base, name.lower())
    hint = "; a comment has a line of its own" if "#" in words else ""
    raise _wrong(file, instruction, f"expected FROM IMAGE or FROM IMAGE AS STAGE{hint}")


def _sources(steps: Sequence[Instruction]) -> Iterator[str]:
    """What `COPY --from` and `RUN --mount=from=` name."""
    for step in steps:
        for flag in step.flags:
            key, _, value = flag.partition("=")
            if key == "--from" and value:
                yield value
            if key == "--mount":
                yield from (
                    part[5:] for part in value.split(",") if part.startswith("from=") and part[5:]
                )


def _wrong(file: str, instruction: Instruction, reason: str) -> InvalidArgument:
    return invalid(f"{file}:{instruction.line}", instruction.text.strip(), reason, "instruction")
