"""The build context: a directory, or what is on stdin. SHELL."""

import os
import subprocess
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from pyswarm_core.docker.building.dockerfile import Dockerfile, parse_dockerfile
from pyswarm_core.docker.building.ignorefile import IgnoreFile, literal, parse_ignore_file
from pyswarm_core.docker.building.recipe import STDIN, Recipe
from pyswarm_core.errors import InvalidArgument, invalid, quoted

NAMES = ("Dockerfile", "Containerfile")
"""The file of a context without `--file`: the first that exists."""
_IGNORE_NAMES = (".dockerignore", ".containerignore")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_CHUNK = 1024 * 1024
_MAGIC = slice(257, 262)
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


class Sources(NamedTuple):
    """A context that can be built."""

    directory: Path
    dockerfile: Path
    content: Dockerfile
    ignored: IgnoreFile


def sources(recipe: Recipe, work: Path) -> Sources:
    """Find the parts of the context; what is on stdin is kept in `work`.

    Raises InvalidArgument, which names the argument, or the line of a file.
    """
    directory = _directory(recipe, work)
    dockerfile = _dockerfile(recipe, directory, work)
    name = STDIN if recipe.file == STDIN or dockerfile.parent == work else _shown(dockerfile)
    content = parse_dockerfile(_text(dockerfile), "standard input" if name == STDIN else name)
    content.until(recipe.target)
    return Sources(directory, dockerfile, content, _ignored(directory, dockerfile))


def ignore_lines(found: Sources) -> Iterator[str]:
    """What buildah leaves out, in patterns that it follows correctly.

    It ends its walk at a directory that is excluded, unless an exception begins with the
    directory's name: so exceptions are resolved here, to the paths that are left out.
    """
    if found.ignored.is_plain:
        yield from found.ignored.lines()
    elif found.ignored.patterns:
        yield from map(literal, excluded(found.directory, found.ignored))


def excluded(top: Path, ignored: IgnoreFile) -> list[str]:
    """The paths that are left out; of a directory without exceptions only its own."""
    return _left_out(top, "", ignored)[0]


def _left_out(top: Path, folder: str, ignored: IgnoreFile) -> tuple[list[str], bool]:
    """What is left out below a folder, and whether anything below it is kept."""
    left_out: list[str] = []
    keeps = False
    with os.scandir(top / folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{folder}{entry.name}"
        is_kept = not ignored.excludes(path)
        below: list[str] = []
        if entry.is_dir(follow_symlinks=False) and (is_kept or ignored.may_keep_below(path)):
            below, keeps_below = _left_out(top, f"{path}/", ignored)
            is_kept = is_kept or keeps_below
        left_out += below if is_kept else [path]
        keeps = keeps or is_kept
    return left_out, keeps


def _directory(recipe: Recipe, work: Path) -> Path:
    if recipe.context == STDIN:
        if recipe.file == STDIN:
            raise InvalidArgument("--file -: standard input is the context already")
        return _unpacked(work)
    if recipe.context.startswith(_REMOTE):
        expected = "expected a directory, or - for an archive: `git clone` it first"
        raise invalid("PATH", recipe.context, expected)
    path = Path(recipe.context)
    if not path.is_dir():
        raise invalid("PATH", recipe.context, "expected a directory that exists, or -")
    return path.resolve()


def _unpacked(work: Path) -> Path:
    """The context on stdin: a tar archive, or a Dockerfile without a context."""
    directory = work / "context"
    directory.mkdir()
    if os.isatty(0):
        raise InvalidArgument("PATH -: standard input is a terminal: expected an archive or a file")
    file = os.fdopen(os.dup(0), "rb")
    with file:
        start = file.peek(512)
        if not start:
            raise InvalidArgument("PATH -: standard input is empty: expected an archive or a file")
        if start.startswith(_COMPRESSED) or start[_MAGIC] == b"ustar":
            _unpack(file, directory)
        else:
            (work / "Dockerfile").write_bytes(file.read())
    return directory


def _unpack(file: BufferedReader, directory: Path) -> None:
    """Unpack by tar, which follows no link out of the directory."""
    from cli.container.files import decompression

    command = ["tar", "--extract", "--file=-", f"--directory={directory}"]
    command += ["--no-same-owner", "--same-permissions", "--delay-directory-restore"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tar:
        assert tar.stdin is not None
        assert tar.stderr is not None
        try:
            archive = decompression.opened(file)
            while data := archive.read(_CHUNK):
                tar.stdin.write(data)
            tar.stdin.close()
        except (BrokenPipeError, EOFError):
            pass
        except InvalidArgument:
            tar.kill()
            raise
        said = tar.stderr.read().decode(errors="replace").strip().split("\n")
    if tar.returncode:
        reason = said[0].removeprefix("tar: ") or "it is cut off"
        raise InvalidArgument(f"PATH -: standard input is not a complete archive: {reason}")


def _dockerfile(recipe: Recipe, directory: Path, work: Path) -> Path:
    if recipe.file == STDIN:
        if os.isatty(0):
            raise InvalidArgument("--file -: standard input is a terminal: expected a Dockerfile")
        with os.fdopen(os.dup(0), "rb") as file:
            (work / "Dockerfile").write_bytes(file.read())
    if (work / "Dockerfile").exists():
        return work / "Dockerfile"
    if recipe.file:
        return _named(recipe, directory, work)
    for name in NAMES:
        if (directory / name).is_file():
            return directory / name
    shown = recipe.context if recipe.context != STDIN else "standard input"
    raise InvalidArgument(f"PATH: {quoted(shown)} has no Dockerfile or Containerfile: use --file")


def _named(recipe: Recipe, directory: Path, work: Path) -> Path:
    """FILE is relative to the working directory, else to the context."""
    for candidate in (Path(recipe.file), directory / recipe.file):
        if candidate.is_dir():
            raise invalid("--file", recipe.file, "it is a directory: expected a Dockerfile")
        if candidate.is_file():
            return candidate.absolute()
        if candidate.exists():  # a pipe, as of `--file <(…)`
            (work / "Dockerfile").write_bytes(candidate.read_bytes())
            return work / "Dockerfile"
    raise invalid("--file", recipe.file, "expected a file that exists, or -")


def _ignored(directory: Path, dockerfile: Path) -> IgnoreFile:
    """`FILE.dockerignore` beside the Dockerfile, else that of the context."""
    own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    for path in (own, *(directory / name for name in _IGNORE_NAMES)):
        if path.is_file():
            return parse_ignore_file(_text(path), _shown(path))
    return IgnoreFile(())


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="surrogateescape")


def _shown(path: Path) -> str:
    """As errors and progress name the file."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return path.name
