"""What becomes of a process's memory: settings of glibc's allocator for returning it to the kernel,
and whether the kernel may write it to a core file. SHELL.

By default freed memory stays with the process: each thread may have an arena of its own, and the
size from which blocks are mapped individually grows with the largest block that was ever freed. A
daemon that once received many large messages would keep their memory.
"""

import ctypes
import os

_PR_SET_DUMPABLE = 4
"""From linux/prctl.h."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Numbers of mallopt(3), from glibc's malloc.h."""

MAPPED_FROM_BYTES = 768 * 1024
"""A block of at least this size is mapped by itself and returned when it is freed. A smaller number
costs system calls and page faults for ordinary messages: with 64 KiB a MiB of a byte stream took
three times the processor time. Setting it also stops its growth.
"""
TRIM_FROM_BYTES = 1024 * 1024
ARENAS = 2


def trim() -> None:
    """Return what is free between blocks in use, after work that took much for a moment. It takes
    1.5 ms in an agent, longer with a large heap. Does nothing where libc is not glibc.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def give_back_freed_memory() -> None:
    """Call it once, before there are threads. Does nothing where libc is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, ARENAS)
    mallopt(_M_TRIM_THRESHOLD, TRIM_FROM_BYTES)
    mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)


def keep_out_of_core_files() -> None:
    """This process has secrets: the kernel writes no core file of it, nor gives one to a program
    (core_pattern, for which RLIMIT_CORE is no limit). Programs that it executes are as ever, so
    containers have Docker's limits. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot prevent core files: {os.strerror(number)}")
