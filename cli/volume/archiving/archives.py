"""The archive of a whole volume, as files and pipes of this machine have it. SHELL.

A file is there once it is complete. What compresses is chosen by the suffix of the file's name;
what decompresses, by how the file begins.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from cli.container.files import decompression
from cli.streams.stdio import Output
from pyswarm_core.errors import InvalidArgument, NotFound, invalid, quoted, reason_of

CHUNK = 256 * 1024
"""Of a frame: a controller accepts no message of 512 KiB from a caller."""
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = (".gz", ".tgz")
_ZSTANDARD = (".zst", ".tzst")
_OTHERS = (".bz2", ".tbz2", ".xz", ".txz", ".lzma", ".Z", ".zip", ".lz4")
_SUFFIXES = "expected a name that ends with .tar, .tar.gz, .tgz or .tar.zst"
_LEVEL = 6


def check_output(path: str) -> None:
    """Raise InvalidArgument or NotFound for a FILE of `backup` that cannot be written."""
    if path == "-":
        if sys.stdout.isatty():
            raise InvalidArgument("FILE -: value is a terminal: redirect standard output")
        return
    if path.endswith(_OTHERS):
        raise invalid("FILE", path, _SUFFIXES)
    target = Path(path)
    if target.is_dir():
        raise invalid("FILE", path, "it is a directory: expected the name of a file")
    if not target.absolute().parent.is_dir():
        raise NotFound(f"FILE: no such directory: {quoted(str(target.parent))}")
    if path.endswith(_ZSTANDARD):
        _zstd()


def _zstd() -> str:
    found = shutil.which("zstd")
    if found is None:
        raise NotFound(
            "zstd is not installed: install the package zstd, or use a name with .tar.gz"
        )
    return found


class Sink:
    """Where an archive goes. Writing happens in a thread."""

    def __init__(self, file: Any, finish: Callable[[], None]) -> None:
        self._file = file
        self._finish = finish
        self._thread = ThreadPoolExecutor(1, "backup")

    async def write(self, data: bytes) -> None:
        """Return when the bytes were written."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.write, data)

    async def finish(self) -> None:
        """The archive is complete."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._finish)


class Stdout:
    """Standard output, which another program may read slowly."""

    def __init__(self) -> None:
        self.write = Output(sys.stdout.fileno())

    async def finish(self) -> None:
        """Nothing is held back."""


@contextmanager
def target(path: str) -> Iterator[Sink | Stdout]:
    """Where FILE is written. A file gets its name when it is finished, and is removed otherwise."""
    if path == "-":
        yield Stdout()
        return
    final = Path(path)
    if final.exists() and not final.is_file():  # a pipe or a device
        with final.open("wb", buffering=0) as file, _compressing(path, file) as sink:
            yield sink
        return
    draft = final.with_name(f".{final.name[:200]}.{token_hex(4)}")
    try:
        with (
            open(draft, "xb", buffering=0, opener=_private) as file,
            _compressing(path, file, lambda: _publish(file, draft, final)) as sink,
        ):
            yield sink
    finally:
        with suppress(OSError):
            draft.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _publish(file: IO[bytes], draft: Path, final: Path) -> None:
    os.fsync(file.fileno())
    draft.replace(final)
    directory = os.open(final.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _compressing(path: str, file: Any, finish: Callable[[], None] = lambda: None) -> Iterator[Sink]:
    """Compress by the suffix of the path."""
    if path.endswith(_GZIP):
        import gzip

        packed = gzip.GzipFile("", "wb", _LEVEL, file)

        def end() -> None:
            packed.close()
            finish()

        yield Sink(packed, end)
    elif path.endswith(_ZSTANDARD):
        words = [_zstd(), "-q", "-T0", "-c"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file) as process:

            def end() -> None:
                assert process.stdin is not None
                process.stdin.close()
                if code := process.wait():
                    raise OSError(f"zstd ended with the code {code}")
                finish()

            try:
                yield Sink(process.stdin, end)
            finally:
                if process.poll() is None:
                    process.kill()
    else:
        yield Sink(_Whole(file), finish)


class _Whole:
    """Writes all bytes to an unbuffered file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]


class Source:
    """FILE of `restore`. `size` is what is to be read; 0: not known. `read` is how far it is."""

    def __init__(self, path: str) -> None:
        """Raises InvalidArgument and OSError for a file that cannot be read."""
        self._path = path
        if path == "-":
            if sys.stdin.isatty():
                raise InvalidArgument("FILE -: value is a terminal: redirect standard input")
            self._file = os.fdopen(os.dup(sys.__stdin__.fileno() if sys.__stdin__ else 0), "rb")
            self.size = 0
        else:
            if Path(path).is_dir():
                raise invalid("FILE", path, "it is a directory: expected an archive of `backup`")
            self._file = Path(path).open("rb")  # noqa: SIM115  # `close` closes it
            self.size = os.fstat(self._file.fileno()).st_size
        if not (beginning := self._file.peek(4)):
            self._file.close()
            raise InvalidArgument(f"{self._name} is empty: expected an archive")
        self._is_zstd = beginning.startswith(_ZSTD)
        if self._is_zstd and path != "-":
            _zstd()

    @property
    def _name(self) -> str:
        return "standard input" if self._path == "-" else quoted(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def chunks(self) -> Generator[bytes]:
        """The archive without its compression. Raises InvalidArgument if that is damaged."""
        try:
            yield from self._zstandard() if self._is_zstd else self._plain()
        except (EOFError, zlib.error) as error:
            raise InvalidArgument(f"{self._name} is damaged or cut off: {error}") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise InvalidArgument(f"{self._name} is damaged: {reason_of(error)}") from None

    def _plain(self) -> Generator[bytes]:
        archive = decompression.opened(self._file)
        if archive is not self._file:
            self.size = 0
        try:
            while data := archive.read(CHUNK):
                yield data
        except Exception as error:
            if type(error).__name__ != "LZMAError":
                raise
            raise InvalidArgument(f"{self._name} is damaged: {error}") from None

    def _zstandard(self) -> Generator[bytes]:
        if self._path == "-":
            decompression.opened(self._file)  # which says what to do
        self.size = 0
        words = [_zstd(), "-q", "-d", "-c", "--", self._path]
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                while data := process.stdout.read(CHUNK):
                    yield data
                said = process.stderr.read().decode(errors="replace").strip()
                if process.wait():
                    raise InvalidArgument(f"{self._name} is damaged or cut off: {said}")
            finally:
                if process.poll() is None:
                    process.kill()
