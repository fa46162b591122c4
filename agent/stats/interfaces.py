"""The counters of the host's network devices. PURE.

A container's interface is a veth pair, whose ends count the same packets: what the host's end
sends, the container receives. One read has the counters of all devices; sixteen files of sysfs for
each device would take ten times as long.
"""

from collections.abc import Collection, Iterable, Mapping

from agent.network.names import Names
from agent.stats.base import Traffic
from agent.tasks.record import Record

_BYTES, _PACKETS, _DROPS = 0, 1, 3
_SENT = 8


def parse(text: bytes, wanted: Collection[str]) -> dict[str, Traffic]:
    """What passed these devices of the host, as the other end sees it, from the text of
    /proc/net/dev.
    """
    found = {}
    for line in text.split(b"\n"):
        name, colon, counters = line.partition(b":")
        device = name.strip().decode(errors="replace")
        if colon and device in wanted:
            numbers = [int(word) for word in counters.split()]
            sent = numbers[_SENT:]
            found[device] = Traffic(
                received_bytes=sent[_BYTES],
                received_packets=sent[_PACKETS],
                received_drops=sent[_DROPS],
                sent_bytes=numbers[_BYTES],
                sent_packets=numbers[_PACKETS],
                sent_drops=numbers[_DROPS],
            )
    return found


def ports(record: Record, names: Names) -> tuple[str, ...]:
    """The host's ends of a task's interfaces."""
    return tuple(names.veth(record.task_id, one.network_id) for one in record.detail.addresses)


def total(devices: Iterable[str], counters: Mapping[str, Traffic]) -> Traffic | None:
    """The sums over these devices; None if there is none of them."""
    found = [counters[device] for device in devices if device in counters]
    if not found:
        return None
    first, *others = found
    for other in others:
        first = first.plus(other)
    return first
