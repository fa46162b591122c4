"""Secrets in the environment of a container. PURE."""

from pyswarm_core.errors import InvalidArgument

VARIABLE_BYTES_MAX = 128 * 1024 - 1
"""NAME=VALUE: Linux refuses to execute a program with a longer one (MAX_ARG_STRLEN)."""


def variable(name: str, title: str, data: bytes) -> str:
    """`NAME=VALUE` of the secret `title`, without the line ends at its end, as `$(cat FILE)` reads
    a file. Errors have no part of the data. Raises InvalidArgument.
    """

    def refused(reason: str) -> InvalidArgument:
        return InvalidArgument(
            f"--secret-env {name}={title}: {reason}: use it as a file with --secret {title}"
        )

    if b"\0" in data:
        raise refused("it has a NUL byte, which no variable can have")
    try:
        value = data.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise refused(f"byte {error.start} is not UTF-8, as a variable must be") from None
    found = f"{name}={value}"
    if len(found.encode()) > VARIABLE_BYTES_MAX:
        raise refused(f"a variable with its name has at most {VARIABLE_BYTES_MAX} bytes")
    return found
