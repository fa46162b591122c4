"""Applies the desired IPsec state of encrypted networks to the kernel. SHELL over NETLINK_XFRM; in
pool threads.

It reads the kernel's state, compares it by ipsec.py, and applies the difference. Invariant: an
entry without a request id of the fleet is never touched; without an encrypted network the state is
read once, to remove what an earlier agent left.
"""

import errno

from agent.network.encryption import ipsec, xfrm
from agent.network.names import Names
from agent.network.netlink import Netlink, Refused
from pyswarm_core.states import KERNEL_WITH, Capability

PROTOCOL = 6
"""NETLINK_XFRM."""
_TRIAL = ipsec.Association(
    "127.0.0.1", "127.0.0.1", spi=256, reqid=0, port=0, key=bytes(ipsec.KEY_BYTES)
)
"""No association of the fleet has so low an SPI, and no policy uses it."""


class Encryption:
    """One fleet's associations and policies in the current network namespace."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._is_supported = False
        self._is_empty = False
        self.sent: dict[int, int] = {}
        """By SPI, the highest number of packets that an association had sent when it was last read.
        """

    def lacks_esp(self) -> str:
        """Why this host cannot encrypt, as one line for operators; "" if it can."""
        if self._is_supported:
            return ""
        try:
            with Netlink(PROTOCOL) as kernel:
                kernel.apply([xfrm.drop(_TRIAL)], ignore_missing=True)
                kernel.apply([xfrm.add(_TRIAL)])
                kernel.apply([xfrm.drop(_TRIAL)])
        except (OSError, Refused) as error:
            return f"this host's kernel has no {KERNEL_WITH[Capability.ESP]}: {error}"
        self._is_supported = True
        return ""

    def compare(self, desired: ipsec.IpsecState) -> ipsec.IpsecChanges:
        """The differences from the desired state. Raises NetworkFailed."""
        if desired == ipsec.IpsecState() and self._is_empty:
            return ipsec.IpsecChanges()
        return ipsec.difference(desired, self._found())

    def sync(self, desired: ipsec.IpsecState) -> dict[str, str]:
        """Apply the desired state. Returns the hosts (by address) for which the kernel refused, and
        why.

        Raises NetworkFailed.
        """
        changes = self.compare(desired)
        self._is_empty = False
        refused: dict[str, str] = {}
        if changes != ipsec.IpsecChanges():
            with Netlink(PROTOCOL) as kernel:
                refused = _apply(kernel, changes)
        self._is_empty = desired == ipsec.IpsecState()
        return refused

    def _found(self) -> ipsec.IpsecState:
        try:
            kernel = Netlink(PROTOCOL)
        except OSError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                return ipsec.IpsecState()
            raise
        with kernel:
            states = kernel.dump(xfrm.dump_states())
            policies = kernel.dump(xfrm.dump_policies())
        names = self._names
        held = [(xfrm.read_state(body, names), xfrm.read_sent(body)) for body in states]
        self.sent = {}
        for entry, sent in held:
            if entry is not None:
                self.sent[entry.spi] = max(sent, self.sent.get(entry.spi, 0))
        return ipsec.IpsecState(
            frozenset(entry for entry, _ in held if entry is not None),
            frozenset(filter(None, (xfrm.read_policy(body, names) for body in policies))),
        )


def _apply(kernel: Netlink, changes: ipsec.IpsecChanges) -> dict[str, str]:
    kernel.apply([xfrm.drop(entry) for entry in changes.replace], ignore_missing=True)
    steps = [(xfrm.add(one), one.source, one.destination) for one in changes.add]
    steps += [(xfrm.set_policy(one), one.source, one.destination) for one in changes.set_policies]
    refused: dict[str, str] = {}
    for place, reason in kernel.attempt([data for data, _, _ in steps]).items():
        # One of the two is this host.
        refused |= dict.fromkeys(steps[place][1:], str(reason))
    removals = [xfrm.drop_policy(entry) for entry in changes.drop_policies]
    removals += [xfrm.drop(entry) for entry in changes.drop]
    kernel.apply(removals, ignore_missing=True)
    return refused
