"""The data of a secret or config from a file or stdin. SHELL."""

import sys
from pathlib import Path

from pyswarm_core.aio.memory import keep_out_of_core_files
from pyswarm_core.errors import InvalidArgument, reason_of
from pyswarm_core.kinds import SECRET
from pyswarm_core.validation import data_problems, require
from pyswarm_core.validation.payloads.problems import DATA_BYTES


def read(kind: str, name: str) -> bytes:
    """The content of the file, `-`: of stdin. Raises InvalidArgument, before anything is sent, also
    for one that is empty or too large. No core file of this process has a secret from then on.
    """
    # More than is valid, so that the error has the size: as much as Docker reads.
    most = 2 * DATA_BYTES[kind]
    if not name:
        raise InvalidArgument(f"{kind} file is required: expected a file, or - for stdin")
    shown = "STDIN" if name == "-" else name
    if kind == SECRET.name:
        keep_out_of_core_files()
    try:
        if name == "-":
            data = sys.stdin.buffer.read(most)
        else:
            with Path(name).open("rb") as opened:
                data = opened.read(most)
    except OSError as error:
        reason = reason_of(error, named=str(Path(name)))
        raise InvalidArgument(f"error reading from {shown}: {reason}") from None
    require([*data_problems(kind, len(data))])
    return data
