"""The tmpfs of secrets and configs of one host. SHELL over the file system and mount(2).

    run/secrets/payloads/<id>          a version as it was sent, after t (a template) or -
    run/secrets/tasks/<task>/secrets/  the files of a task below its /run/secrets
    run/secrets/tasks/<task>/files/    its other files
    run/secrets/tasks/<task>/staged/   files that are about to replace some of these

Nothing of it is on a disk, and it outlives the agent. The directory of a task is complete once it
has its name: it is made beside and renamed.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import RuntimeFailed
from agent.secrets.plan import STAGED, Content, TaskFile, Write, swap_steps
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.errors import reason_of
from pyswarm_core.payloads.references import SECRETS_DIRECTORY

_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
SHARE = "25%"
"""Of the host's memory; the kernel's default would be half of it."""
_NEW = ".new"
_TEMPLATE = b"t"
_READ_BYTES = 1 << 20


class SecretStore:
    """The tmpfs of one agent."""

    def __init__(self, run: Path) -> None:
        self.root = run / "secrets"
        self._payloads = self.root / "payloads"
        self._tasks = self.root / "tasks"

    def prepare(self) -> None:
        """Mount the tmpfs, unless an earlier agent did. Raises OSError."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        if not os.path.ismount(self.root):
            _mount_tmpfs(self.root)
        for directory in (self._payloads, self._tasks):
            directory.mkdir(mode=0o700, exist_ok=True)

    def has(self, payload_id: str) -> bool:
        """Whether it has the data of this version."""
        return os.path.exists(f"{self._payloads}/{payload_id}")  # noqa: PTH110

    def put(self, payload_id: str, content: Content) -> None:
        """Keep a version. Raises OSError, and keeps nothing then."""
        made = self._payloads / f"{payload_id}{_NEW}"
        try:
            descriptor = _opened(str(made))
            try:
                _write(descriptor, (_TEMPLATE if content.is_template else b"-") + content.data)
            finally:
                os.close(descriptor)
            made.rename(self._payloads / payload_id)
        except OSError:
            made.unlink(missing_ok=True)
            raise

    def read(self, payload_id: str) -> Content:
        """A version that it has. Raises OSError."""
        stored = _read(f"{self._payloads}/{payload_id}")
        return Content(stored[1:], stored[:1] == _TEMPLATE)

    def directory(self, task_id: str) -> Path:
        """The directory of the task's files."""
        return self._tasks / task_id

    def make(
        self, task_id: str, files: Sequence[TaskFile], content: Callable[[TaskFile], bytes]
    ) -> Path:
        """Make the files of a task, in place of what it had. Raises OSError and the errors of
        `content`, and leaves none of them then.
        """
        made, directory = self._tasks / f"{task_id}{_NEW}", self.directory(task_id)
        remove_tree(made)
        try:
            made.mkdir(mode=0o700)
            top = str(made)
            known = {top}
            for one in files:
                path = f"{top}/{one.place}"
                _make_parents(path, known)
                _make_file(path, one, content(one))
            remove_tree(directory)
            made.rename(directory)
        except Exception:  # also of `content`
            remove_tree(made)
            raise
        return directory

    def swap(
        self, task_id: str, files: Sequence[TaskFile], content: Callable[[TaskFile], bytes]
    ) -> bool:
        """Replace those files of a task whose content differs, each at once as a whole; returns
        whether there were any. Its container sees them if their directory is bound: another one is
        refused. Nothing is replaced before all are written. Raises OSError, RuntimeFailed and the
        errors of `content`.
        """
        directory = self.directory(task_id)
        staged = directory / STAGED
        remove_tree(staged)
        try:
            staged.mkdir(mode=0o700)
            different = []
            for one in files:
                data = content(one)
                if _read(f"{directory}/{one.place}") == data:
                    continue
                if not one.is_shared:
                    raise RuntimeFailed(
                        f"{one.target} does not change in a running container: it is not below"
                        f" {SECRETS_DIRECTORY}"
                    )
                different.append((one, data))
            for step in swap_steps(different):
                path = f"{directory}/{step.place}"
                if isinstance(step, Write):
                    _make_file(path, step.file, step.data)
                else:
                    os.rename(path, f"{directory}/{step.to}")  # noqa: PTH104
        finally:
            remove_tree(staged)
        return bool(different)

    def remove(self, task_id: str) -> None:
        """Remove the files of a task. Raises OSError."""
        for name in (task_id, f"{task_id}{_NEW}"):
            remove_tree(self._tasks / name)

    def keep(self, used: Collection[str]) -> None:
        """Remove the data of all other versions."""
        with suppress(FileNotFoundError):
            for kept in list(self._payloads.iterdir()):
                if kept.name.removesuffix(_NEW) not in used:
                    kept.unlink(missing_ok=True)

    @property
    def is_empty(self) -> bool:
        """Whether it has the data of no version."""
        try:
            return not any(self._payloads.iterdir())
        except FileNotFoundError:
            return True


def _make_parents(path: str, known: set[str]) -> None:
    """Make the directories above the file that are not among the known ones."""
    parent = path.rpartition("/")[0]
    if parent not in known:
        _make_parents(parent, known)
        os.mkdir(parent, 0o755)  # noqa: PTH102
        os.chmod(parent, 0o755)  # noqa: PTH101
        known.add(parent)


def _make_file(path: str, one: TaskFile, data: bytes) -> None:
    file = one.reference.file
    descriptor = _opened(path)
    try:
        _write(descriptor, data)
        os.fchown(descriptor, int(file.uid), int(file.gid))
        os.fchmod(descriptor, file.mode)  # after fchown, which clears set-id bits
    finally:
        os.close(descriptor)


def _opened(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o400)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _mount_tmpfs(target: Path) -> None:
    """Mount a tmpfs for root alone, whose pages are not swapped if the kernel has that (6.4)."""
    options = f"mode=0700,size={SHARE}"
    number = _mount(target, f"{options},noswap")
    if number == errno.EINVAL:
        number = _mount(target, options)
    if number:
        raise OSError(number, f"cannot mount a tmpfs at {target}: {os.strerror(number)}")


def _mount(target: Path, options: str) -> int:
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    refused = _LIBC.mount(b"tmpfs", os.fsencode(target), b"tmpfs", flags, options.encode())
    return ctypes.get_errno() if refused else 0


def reason_beneath(error: OSError, root: Path) -> str:
    """The error for users; a full tmpfs is named."""
    if error.errno == errno.ENOSPC:
        return f"the tmpfs {root} of this host, a quarter of its memory, is full"
    return reason_of(error)
