"""The tests of health checks and readiness checks, and the syntax of their flags. PURE.

`HTTP` has PORT/PATH, `TCP` has PORT, `GRPC` has PORT or PORT/SERVICE.
"""

from collections.abc import Callable, Mapping

from pyswarm_core.errors import invalid

NONE = "NONE"
CMD = "CMD"
CMD_SHELL = "CMD-SHELL"
HTTP = "HTTP"
TCP = "TCP"
GRPC = "GRPC"
PROBES = (HTTP, TCP, GRPC)
"""Checks that the agent makes itself, in the task's network namespace."""

DURATIONS = ("interval", "timeout", "start_period", "start_interval")
"""The fields of a check that are durations."""

Test = tuple[str, ...]


def command(text: str) -> Test:
    """A command for the image's shell; empty: no test of its own, as in Docker."""
    return (CMD_SHELL, text) if text else ()


def http(text: str) -> Test:
    """`8080/healthz`; `8080` is `8080/`. Raises InvalidArgument."""
    port, _, path = text.partition("/")
    return (HTTP, f"{_port(text, port, 'PORT/PATH, as in 8080/healthz')}/{path}")


def tcp(text: str) -> Test:
    """`5432`. Raises InvalidArgument."""
    return (TCP, str(_port(text, text, "PORT")))


def grpc(text: str) -> Test:
    """`50051` or `50051/shop.Cart`. Raises InvalidArgument."""
    port, slash, service = text.partition("/")
    number = _port(text, port, "PORT or PORT/SERVICE, as in 50051/shop.Cart")
    return (GRPC, f"{number}/{service}" if slash and service else str(number))


PARSERS: Mapping[str, Callable[[str], Test]] = {
    "cmd": command,
    "http": http,
    "tcp": tcp,
    "grpc": grpc,
}
"""The end of the flag -> its parser: `--health-http`, `--ready-tcp`."""


def flag_of(test: Test) -> str:
    """The end of the flag that sets the test: `cmd`, `http`, `tcp`, `grpc`."""
    return test[0].lower() if test and test[0] in PROBES else "cmd"


def _port(text: str, port: str, expected: str) -> int:
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port[:9]) <= 65535:
        raise invalid("port", text, f"expected {expected}, with a port of 1 to 65535")
    return int(port)
