"""The environment that `--env` and `--env-file` name. SHELL: reads the files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pyswarm_core.docker import entries
from pyswarm_core.docker.entries import Entry
from pyswarm_core.errors import InvalidArgument, quoted


def environment(
    env: Iterable[str], files: Iterable[str], own: Mapping[str, str]
) -> tuple[str, ...]:
    """`NAME=VALUE` of the files, then of the flags; `own` is this process's. Raises
    InvalidArgument.
    """
    found = [entry for path in files for entry in _env_file(path)]
    found += [Entry("--env", text) for text in env]
    return entries.environment(found, own)


def _env_file(path: str) -> list[Entry]:
    source = f"--env-file {quoted(path)}"
    try:
        return entries.env_lines(source, Path(path).read_bytes())
    except OSError as error:
        raise InvalidArgument(f"{source} cannot be read: {error.strerror}") from None
