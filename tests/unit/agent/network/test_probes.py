"""Probes work however many descriptors are open."""

import fcntl
import resource
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.network.trace.probes import echo_by

MANY = 1_024
"""select() accepts no descriptor from here on (FD_SETSIZE)."""


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= MANY:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 64), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_an_agent_with_a_thousand_open_files_sends_echoes() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as usual:
        number = fcntl.fcntl(usual.fileno(), fcntl.F_DUPFD_CLOEXEC, MANY)
    # Not a raw socket, which requires privileges: this one refuses to send to port 0 and returns
    # the error.
    with socket.socket(fileno=number) as late:
        assert late.fileno() >= MANY
        fact = echo_by(late, "127.0.0.1", 84, 0.01)
    assert fact.error
