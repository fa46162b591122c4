"""Network namespaces of tasks: created, entered, and bound to files. SHELL.

A namespace is bound to its file last, when its configuration is complete: a file that is a mount
point is a complete namespace, and an agent that dies earlier leaves nothing behind. Invariant: an
idle thread of the pool is in the host's namespace; if a thread cannot return, the process aborts,
because all its later work would happen in the wrong namespace.
"""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.network.base import NetworkFailed
from agent.network.netlink import NETFILTER, Netlink

_NEWNET = 0x4000_0000
_BIND = 4096
_DETACH = 2
_HERE = "/proc/thread-self/ns/net"
_HALF_CLOSED = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"
_HALF_CLOSED_S = b"10800"
"""A half-closed connection may be idle for longer than the kernel's default of one minute: at least
until the other side's keepalive (every two hours).
"""
_UNANSWERED = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_syn_sent"
_UNANSWERED_S = b"1"
"""TCP retransmits its first packet after one second (RFC 6298, 2.1). By then conntrack has deleted
the attempt to connect to a virtual address, and the packet is forwarded to another random backend.
"""
_OPEN = {
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": b"0",
    "/proc/sys/net/ipv4/ping_group_range": b"0 2147483647",
}
"""As in Docker: programs without capabilities may listen on port 80, and ping. Root of a user
namespace has no capability here.
"""
# os.unshare and os.setns exist only since Python 3.12.
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """The namespaces bound in one directory, one file each, named by task."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._host = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor of the host's namespace."""
        os.close(self._host)

    @property
    def host(self) -> int:
        """A descriptor of the host's namespace."""
        return self._host

    def path(self, name: str) -> Path:
        """The file of a namespace, whether it exists or not."""
        return self._directory / name

    def found(self) -> set[str]:
        """The names of all namespaces that exist."""
        here = self._directory.stat().st_dev
        return {entry.name for entry in self._directory.iterdir() if entry.stat().st_dev != here}

    def exists(self, name: str) -> bool:
        """Whether a complete namespace of this name exists."""
        try:
            return self.path(name).stat().st_dev != self._directory.stat().st_dev
        except FileNotFoundError:
            return False

    @contextmanager
    def new(self, *, six: bool = False) -> Iterator[tuple[int, Netlink]]:
        """A new namespace (its descriptor and a socket in it), which persists only if `keep` binds
        it. Without `six` its interfaces have no IPv6.
        """
        with self._away():
            _check(_libc.unshare(_NEWNET), "create a network namespace")
            descriptor = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
            _set_ipv6(six)
            _write(_HALF_CLOSED, _HALF_CLOSED_S)
            _write(_UNANSWERED, _UNANSWERED_S)
            for path, value in _OPEN.items():
                _write(path, value)
            inside = Netlink()
        with inside:
            try:
                yield descriptor, inside
            finally:
                os.close(descriptor)

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        """Run the block with the calling thread in an existing namespace."""
        descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._away():
                _check(_libc.setns(descriptor, _NEWNET), f"enter the network namespace of {name}")
                yield
        finally:
            os.close(descriptor)

    @contextmanager
    def inside(self, name: str) -> Iterator[Netlink]:
        """A rtnetlink socket in an existing namespace."""
        with self.entered(name):
            inside = Netlink()
        with inside:
            yield inside

    def set_ipv6(self, name: str, six: bool) -> None:
        """Whether new interfaces of an existing namespace have IPv6; those that it has stay as they
        are.
        """
        with self.entered(name):
            _set_ipv6(six)

    def netfilter(self, descriptor: int) -> Netlink:
        """A netfilter socket in a namespace that exists at least as long as the socket."""
        with self._away():
            _check(_libc.setns(descriptor, _NEWNET), "enter a task's network namespace")
            return Netlink(NETFILTER)

    def netfilter_of(self, name: str) -> Netlink:
        """The same for a namespace that exists."""
        with self.entered(name):
            return Netlink(NETFILTER)

    def tcp_socket(self, pid: int) -> socket.socket:
        """A TCP socket, not blocking, in the network namespace of a process. It takes microseconds:
        the event loop may call it.
        """
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self.tcp_socket_in(descriptor)
        finally:
            os.close(descriptor)

    def tcp_socket_in(self, descriptor: int) -> socket.socket:
        """The same in the network namespace of a descriptor."""
        with self._away():
            _check(_libc.setns(descriptor, _NEWNET), "enter a task's network namespace")
            return socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def keep(self, name: str, descriptor: int) -> None:
        """Bind a namespace to its file."""
        path = self.path(name)
        path.touch()
        source = f"/proc/self/fd/{descriptor}".encode()
        mounted = _libc.mount(source, os.fsencode(path), b"none", _BIND, None)
        try:
            _check(mounted, f"bind {path}")
        except NetworkFailed:
            path.unlink()
            raise

    def drop(self, name: str) -> None:
        """Unbind a namespace and remove its file; a missing file is no error."""
        path = self.path(name)
        # EINVAL: the file was never bound.
        _libc.umount2(os.fsencode(path), _DETACH)
        with suppress(FileNotFoundError):
            path.unlink()

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        finally:
            if _libc.setns(self._host, _NEWNET):
                os.abort()


def _set_ipv6(six: bool) -> None:
    """Whether new interfaces of the thread's namespace have IPv6."""
    # Skip duplicate address detection and router solicitation on every interface: addresses are
    # unique, and there are no routers.
    for setting in ("accept_dad", "accept_ra") if six else ():
        _write(f"/proc/sys/net/ipv6/conf/default/{setting}", b"0")
    _write("/proc/sys/net/ipv6/conf/default/disable_ipv6", b"0" if six else b"1")


def _check(result: int, what: str) -> None:
    if result:
        raise NetworkFailed(f"cannot {what}: {os.strerror(ctypes.get_errno())}")


def _write(path: str, value: bytes) -> None:
    # A kernel without IPv6, or without connection tracking, has no such file and needs no setting.
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, value)
        finally:
            os.close(descriptor)
