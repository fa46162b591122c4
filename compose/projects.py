"""What is loaded: the files of a project, its name, its variables. PURE but for `Files`."""

import posixpath
import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

from compose.limits import FILES_MAX
from compose.report import Report, refusal
from compose.text.dotenv import variables
from compose.tree import Node, Path, Place
from pyswarm_core.errors import invalid, reason_of

DEFAULTS = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
STDIN = "-"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}
_NOT_NAME = re.compile(r"[^a-z0-9_-]", re.ASCII)


class Files(Protocol):
    """What is on disk. `compose.files.Disk` reads; tests have a mapping."""

    def read(self, path: str) -> bytes:
        """A file, or more of it than may be read; `-` is the standard input. Raises OSError."""
        ...

    def has(self, path: str) -> bool:
        """Whether the file exists."""
        ...

    def is_executable(self, path: str) -> bool:
        """Whether its owner may execute the file."""
        ...


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asked to load."""

    directory: str
    """The working directory: absolute."""
    home: str = "/"
    environ: Mapping[str, str] = {}
    """The shell's variables."""
    files: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    project_directory: str = ""
    project_name: str = ""
    profiles: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """Those named on the command line, which enables their profiles."""
    is_stack: bool = False
    """As `stack deploy`: any name; Docker's own merge, if all files say version 3."""
    reads_env_file: bool = True
    interpolates: bool = True
    """Without, the model has all services with their env files, as their names may be variables."""
    is_checked: bool = True
    """Whether services may refer only to what there is."""
    normalizes: bool = True
    """Whether the model has what follows from what is written: names, the default network, …"""
    resolves_env_files: bool = True
    resolves_paths: bool = True
    """Without, paths start at the project directory, as they are written there."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """The files and variables that a request comes to."""

    files: tuple[str, ...]
    directory: str
    variables: Mapping[str, str]
    name: str
    """Given by flag or variable; empty if the files or the directory give it."""
    profiles: tuple[str, ...]


class Counted:
    """Files that are counted, with the faults of reading as refusals."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files, self._directory = files, directory
        self.paths: dict[str, None] = {}
        """What was read, in order."""

    def read(self, path: str, where: Node | None = None, at: Path = ()) -> bytes:
        """A file's bytes. Raises Refused, at the value that names the file, if one does."""
        self.paths[path] = None
        if len(self.paths) > FILES_MAX:
            raise refusal(Place(self.shown(path)), (), f"a project reads at most {FILES_MAX} files")
        try:
            return self._files.read(path)
        except OSError as error:
            reason = reason_of(error, path).partition(": ")[0]
            if where is not None:
                raise refusal(where, at, f"{self.shown(path)}: {reason}") from None
            raise refusal(Place(self.shown(path)), (), reason) from None

    def has(self, path: str) -> bool:
        """Whether the file exists."""
        return self._files.has(path)

    def shown(self, path: str) -> str:
        """A path as errors show it: relative to the working directory, if it is below."""
        if path == STDIN:
            return "standard input"
        below = path.removeprefix(self._directory.rstrip("/") + "/")
        return below if below != path else path


def project(request: Request, files: Counted, report: Report) -> Project:
    """The files, directory and variables. Raises Refused, or InvalidArgument for a flag."""
    shell = {"PWD": request.directory, **request.environ}
    outer: dict[str, str] = {}
    given = request.files or request.env_files or shell.get("COMPOSE_ENV_FILES")
    reads = request.reads_env_file and not _is_disabled(shell)
    if not given and not request.is_stack and reads:
        outer = _env_file(_joined(request, ".env"), files, shell)
    known = {**outer, **shell}
    paths = _paths(request, known, files, report)
    directory = _directory(request, paths)
    inner = _inner(request, known, directory, files) if reads else {}
    found = {**inner, **outer, **shell}
    asked = found.get("COMPOSE_PROFILES", "").split(",")
    # Without any, the empty one counts: `profiles: ["${P:-}"]` disables nothing.
    profiles = request.profiles or tuple(part.strip() for part in asked)
    name = _given_name(request, found)
    if not paths:
        raise _no_files(request)
    return Project(files=paths, directory=directory, variables=found, name=name, profiles=profiles)


def _joined(request: Request, name: str) -> str:
    """A file of the project directory, if one is given, else of the working directory."""
    return posixpath.normpath(posixpath.join(request.directory, request.project_directory, name))


def _is_disabled(shell: Mapping[str, str]) -> bool:
    name = "COMPOSE_DISABLE_ENV_FILE"
    word = shell.get(name, "") or "false"
    if word not in _TRUTHS:
        raise invalid(name, word, f"expected one of {', '.join(_TRUTHS)}")
    return _TRUTHS[word]


def _split(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _paths(
    request: Request, known: Mapping[str, str], files: Counted, report: Report
) -> tuple[str, ...]:
    given = request.files
    if not given and not request.is_stack:
        separator = known.get("COMPOSE_PATH_SEPARATOR") or ":"
        given = _split(known.get("COMPOSE_FILE", ""), separator)
    if given:
        at = request.directory
        return tuple(p if p == STDIN else posixpath.normpath(posixpath.join(at, p)) for p in given)
    return () if request.is_stack else _found(request, files, report)


def _found(request: Request, files: Counted, report: Report) -> tuple[str, ...]:
    directory = posixpath.normpath(request.project_directory or request.directory)
    if not directory.startswith("/"):
        directory = posixpath.normpath(posixpath.join(request.directory, directory))
    while True:
        there = [p for n in DEFAULTS if files.has(p := posixpath.join(directory, n))]
        if there:
            break
        if directory == "/":
            return ()
        directory = posixpath.dirname(directory)
    overrides = [p for n in OVERRIDES if files.has(p := posixpath.join(directory, n))]
    for several in (there, overrides):
        if len(several) > 1:
            names = ", ".join(posixpath.basename(path) for path in several)
            used = posixpath.basename(several[0])
            report.warn(None, (), f"{names} in {directory}: only {used} is read")
    return (there[0], *overrides[:1])


def _directory(request: Request, paths: tuple[str, ...]) -> str:
    if request.project_directory:
        joined = posixpath.join(request.directory, request.project_directory)
        return posixpath.normpath(joined)
    first = next(iter(paths), STDIN)
    return request.directory if first == STDIN else posixpath.dirname(first)


def _inner(
    request: Request, known: Mapping[str, str], directory: str, files: Counted
) -> dict[str, str]:
    """The variables of the env files that are given, the last of a name, or else of `.env`."""
    given = request.env_files or _split(known.get("COMPOSE_ENV_FILES", ""), ",")
    if not given:
        return _env_file(posixpath.join(directory, ".env"), files, known)
    found: dict[str, str] = {}
    for path in given:
        full = posixpath.normpath(posixpath.join(request.directory, path))
        found.update(_variables(full, files, {**found, **known}))
    return found


def _env_file(path: str, files: Counted, known: Mapping[str, str]) -> dict[str, str]:
    """The variables of a file; none if it does not exist."""
    return _variables(path, files, known) if files.has(path) else {}


def _variables(path: str, files: Counted, known: Mapping[str, str]) -> dict[str, str]:
    return variables(files.read(path), files.shown(path), known.get)


def _given_name(request: Request, found: Mapping[str, str]) -> str:
    if request.is_stack:
        return request.project_name
    for field, name in (
        ("--project-name", request.project_name),
        ("COMPOSE_PROJECT_NAME", found.get("COMPOSE_PROJECT_NAME", "")),
    ):
        if name:
            if not _NAME.fullmatch(name):
                expected = "expected lower-case letters, digits, _ and -, the first no _ or -"
                raise invalid(field, name, expected)
            return name
    return ""


def normalized(name: str) -> str:
    """A name of a file or directory as a project's: `My Proj.X` is `myprojx`."""
    return _NOT_NAME.sub("", name.lower()).lstrip("_-")


def _no_files(request: Request) -> Exception:
    if request.is_stack:
        return invalid("--compose-file", "", "expected at least one file, or - for standard input")
    names = ", ".join(DEFAULTS)
    where = request.project_directory or request.directory
    return invalid(
        "--file", where, f"expected one of {names} in it or a directory above it, or --file",
        "directory",
    )  # fmt: skip
