"""The bandwidth of tasks' interfaces: token buckets (tc's qdisc `tbf`). SHELL over messages.

A qdisc limits what its device sends. So the end inside the task's namespace has one for what the
task sends, and the host's end one for what it receives. Both delay packets before they drop any,
and neither the bridge nor the fast path goes around them: whatever hands a packet to a device
passes its qdisc.
"""

import errno
import socket
import struct
from collections.abc import Sequence

from agent.network import message
from agent.network.base import NetworkFailed
from agent.network.message import attribute
from agent.network.netlink import Netlink, Refused
from agent.network.overlay.plug import Plug

_NEW, _DELETE = 36, 37
_TCMSG = struct.Struct("BxxxiIII")
_ROOT, _HANDLE = 0xFFFF_FFFF, 97 << 16
_RATE = struct.Struct("BBHhHI")
_ETHERNET = 1
_KIND, _OPTIONS = 1, 2
_PARAMETERS, _RATE64, _BURST = 1, 4, 6
_U32_MAX = 2**32 - 1
_BURST_MIN, _QUEUE_MIN = 16 << 10, 64 << 10
_BURST_PER_S, _QUEUE_PER_S = 100, 20
"""A burst of 10 ms, and a queue of 50 ms."""


def limit(host: Netlink, wiring: Sequence[Plug], inside: Netlink) -> None:
    """Set the bandwidth of these interfaces, or take its limits away. Raises NetworkFailed."""
    try:
        for plug in wiring:
            port = socket.if_nametoindex(plug.port.name)
            _set(host, port, plug.bandwidth.ingress, plug.port.mtu)
            _set(inside, plug.index, plug.bandwidth.egress, plug.inside.mtu)
    except (Refused, OSError) as error:
        raise NetworkFailed(f"cannot limit the bandwidth by tc's qdisc tbf: {error}") from error


def limit_new(host: Netlink, wiring: Sequence[Plug], inside: Netlink) -> None:
    """The same for new interfaces, which have no limit yet. Raises NetworkFailed."""
    limited = [plug for plug in wiring if plug.bandwidth.egress or plug.bandwidth.ingress]
    if limited:
        limit(host, limited, inside)


def _set(kernel: Netlink, index: int, rate: int, mtu: int) -> None:
    if rate:
        kernel.apply([token_bucket(index, rate, mtu)])
    else:
        # The kernel calls one that does not exist invalid.
        for refused in kernel.attempt([_removal(index)], ignore_missing=True).values():
            if refused.number != errno.EINVAL:
                raise refused


def token_bucket(index: int, rate: int, mtu: int) -> bytes:
    """Limit what a device sends to a rate in bits a second."""
    rate //= 8
    burst = max(rate // _BURST_PER_S, _BURST_MIN, 2 * mtu)
    queue = burst + max(rate // _QUEUE_PER_S, _QUEUE_MIN)
    rates = _RATE.pack(0, _ETHERNET, 0, 0, 0, min(rate, _U32_MAX)) + _RATE.pack(0, 0, 0, 0, 0, 0)
    options = attribute(_PARAMETERS, rates + struct.pack("III", queue, 0, 0))
    options += attribute(_BURST, struct.pack("I", burst))
    if rate > _U32_MAX:
        options += attribute(_RATE64, struct.pack("Q", rate))
    body = _TCMSG.pack(0, index, _HANDLE, _ROOT, 0)
    body += attribute(_KIND, b"tbf\0") + attribute(_OPTIONS, options)
    return message.message(_NEW, message.CREATE | message.REPLACE, body)


def _removal(index: int) -> bytes:
    return message.message(_DELETE, 0, _TCMSG.pack(0, index, 0, _ROOT, 0))
