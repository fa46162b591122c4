"""A stdin for code that reads this process's."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fed(data: bytes) -> Iterator[None]:
    """The block's stdin is a pipe with these bytes."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=write)
    feeder.start()
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        feeder.join()
