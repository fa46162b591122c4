"""What the example image answers: who it is, where, and whom it saw."""

import sys

import msgspec

from tests.e2e.acceptance.fleet import Done, Fleet

PAGE = "/cgi-bin/index.cgi"


class Answer(msgspec.Struct, frozen=True):
    """One page of the example's server."""

    hostname: str
    addresses: tuple[str, ...]
    client: str


def read(done: Done) -> Answer | None:
    """The page that a command printed; None if it printed none."""
    lines = dict(line.partition(":")[::2] for line in done.out.splitlines() if ":" in line)
    if done.code or "client" not in lines:
        return None
    return Answer(
        lines["hostname"].strip(), tuple(lines["address"].split()), lines["client"].strip()
    )


def ask(fleet: Fleet, task_id: str, host: str, port: int = 80) -> Answer | None:
    """Ask as a program in the task's container does: by name or address."""
    url = f"http://{host}:{port}{PAGE}"
    return read(fleet.contained(task_id, "/bin/timeout", "3", "/bin/wget", "-q", "-O", "-", url))


def ask_from_outside(fleet: Fleet, address: str, port: int) -> Answer | None:
    """Ask a published port from a machine that is none of the hosts."""
    return read(fleet.outside(*_FETCH, f"http://{address}:{port}{PAGE}"))


def ask_from_host(fleet: Fleet, host: str, address: str, port: int) -> Answer | None:
    """Ask a published port from one of the hosts."""
    return read(fleet.on(host, *_FETCH, f"http://{address}:{port}{PAGE}"))


_SCRIPT = (
    "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=3).read().decode())"
)
_FETCH = (sys.executable, "-c", _SCRIPT)
