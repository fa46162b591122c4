"""The IPsec associations and policies that encrypt networks between this host and its peers. PURE.

Every host derives the key of each direction from the cluster's key, so nothing is negotiated.
Invariants: no two directions share a key, and this host accepts every key that a peer may send
with: a new key is only accepted until the next one arrives, twelve hours later, and is used for
sending from then on. A host that is without a controller for as long still understands all others,
and they understand it.

`difference` compares with the actual state, as in plan.py. Policies select the packets to encrypt
on their way out (those that carry the fleet's mark); the packet filter (filter/host.py) drops all
other packets of these networks that leave or enter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2s

import msgspec

from agent.network.base import DesiredOverlay, Drift, Underlay
from agent.network.names import Names
from pyswarm_core.identity.certificates import EncryptionKey

KEY_BYTES = 20
"""AES-128's key and the four bytes of salt that RFC 4106 puts before each nonce."""
REKEY_PACKETS = 1 << 31
"""Half of the kernel's maximum per association: 2^32, so that no nonce is used twice."""
_REDACTED = bytes(KEY_BYTES)
_IP, _UDP, _VXLAN, _ETHERNET = 20, 8, 8, 14
_ESP_HEADER, _NONCE, _TRAILER, _INTEGRITY = 8, 8, 2, 16
_ALIGNMENT = 4
_KEY_SLOTS = 255
_NODES = 1 << 24


class Association(msgspec.Struct, frozen=True, order=True):
    """One direction between two hosts under one key: the kernel's `xfrm state`. `port` is the
    destination port of the datagrams that it encrypts.
    """

    source: str
    destination: str
    spi: int
    reqid: int
    port: int
    key: bytes
    """Empty: the kernel's entry has another cipher, mode or protocol than the fleet's."""

    @property
    def name(self) -> tuple[str, int]:
        """The kernel's unique key of an association."""
        return self.destination, self.spi


class Policy(msgspec.Struct, frozen=True, order=True):
    """Selects the association for packets to another host: the kernel's `xfrm policy`."""

    source: str
    destination: str
    port: int
    mark: int
    spi: int
    reqid: int

    @property
    def name(self) -> tuple[str, str, int, int]:
        """The kernel's unique key of a policy."""
        return self.source, self.destination, self.port, self.mark


class IpsecState(msgspec.Struct, frozen=True):
    """The associations and policies of a host, desired or actual."""

    associations: frozenset[Association] = frozenset()
    policies: frozenset[Policy] = frozenset()


class IpsecChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes, in the order in which they must be applied: no packet is ever without its
    association.
    """

    replace: tuple[Association, ...] = ()
    """Dropped before the entry of the same name is added: a key cannot be changed."""
    add: tuple[Association, ...] = ()
    set_policies: tuple[Policy, ...] = ()
    drop_policies: tuple[Policy, ...] = ()
    drop: tuple[Association, ...] = ()


def is_encrypted(overlay: DesiredOverlay) -> bool:
    """Whether the network's packets between hosts must be encrypted. Keys alone imply it too: files
    and controllers from before the field existed have only keys.
    """
    return overlay.encrypted or bool(overlay.encryption_keys)


def encrypted_mtu(underlay_mtu: int) -> int:
    """The largest packet of an encrypted network that is sent unfragmented.

    The length that ESP encrypts (from UDP's header to its own trailer) is a multiple of four bytes.
    """
    room = underlay_mtu - _IP - _ESP_HEADER - _NONCE - _INTEGRITY
    return room // _ALIGNMENT * _ALIGNMENT - _TRAILER - _UDP - _VXLAN - _ETHERNET


def desired_state(
    overlays: Iterable[DesiredOverlay], names: Names, underlay: Underlay
) -> IpsecState:
    """The desired state for these networks."""
    encrypted = [overlay for overlay in overlays if overlay.encryption_keys]
    if not encrypted:
        return IpsecState()
    keys = _newest(encrypted)
    own = encrypted[0].node_number
    peers = {peer.node_number: peer.address for overlay in encrypted for peer in overlay.peers}
    associations: list[Association] = []
    policies: list[Policy] = []
    for number, address in peers.items():
        reqid = names.request_id(number)
        inward = (address, underlay.address, number, own)
        outward = (underlay.address, address, own, number)
        associations += (_association(key, inward, reqid, underlay.port) for key in keys)
        associations += (
            _association(key, outward, reqid, underlay.port) for key in keys_to_hold(keys)
        )
        policies.append(
            Policy(
                underlay.address, address, underlay.port, names.encryption_mark,
                spi(sending_key(keys).number, own), reqid,
            )
        )  # fmt: skip
    return IpsecState(frozenset(associations), frozenset(policies))


def _newest(encrypted: Iterable[DesiredOverlay]) -> Sequence[EncryptionKey]:
    # All networks have the cluster's keys, but one that is being withdrawn may lack the newest.
    return max((o.encryption_keys for o in encrypted), key=lambda kept: kept[0].created_at)


def worn_key(overlays: Iterable[DesiredOverlay], sent: Mapping[int, int]) -> int:
    """The number of the key that this host sends with, if an association has sent half of the
    packets that it may; 0 otherwise. `sent` is by SPI.
    """
    encrypted = [overlay for overlay in overlays if overlay.encryption_keys]
    if not encrypted:
        return 0
    number = sending_key(_newest(encrypted)).number
    return number if sent.get(spi(number, encrypted[0].node_number), 0) >= REKEY_PACKETS else 0


def sending_key(keys: Sequence[EncryptionKey]) -> EncryptionKey:
    """The key to send with. The newest key is only accepted until the next one arrives, so that
    every peer has it by then; the very first is used at once, since a peer gets the network and
    that key together.
    """
    return keys[1] if len(keys) > 1 else keys[0]


def keys_to_hold(keys: Sequence[EncryptionKey]) -> Sequence[EncryptionKey]:
    """The current sending key and the previous one, under which packets may still be in the send
    queues.
    """
    today = keys.index(sending_key(keys))
    return keys[today : today + 2]


def spi(key_number: int, source: int) -> int:
    """The SPI of each packet: the key's number in the upper 8 bits, the sender's node number below.

    An association's name includes the receiver's address, so the SPI is unique for every direction
    and key (RFC 4303 reserves values below 256).
    """
    return (key_number % _KEY_SLOTS + 1) << 24 | source % _NODES


def direction_key(secret: bytes, source: int, destination: int) -> bytes:
    """Key and salt of one direction: keyed BLAKE2s over both node numbers."""
    direction = source.to_bytes(8) + destination.to_bytes(8)
    return blake2s(direction, digest_size=KEY_BYTES, key=secret, person=b"pyswesp").digest()


def _association(
    key: EncryptionKey, direction: tuple[str, str, int, int], reqid: int, port: int
) -> Association:
    source, destination, sender, receiver = direction
    secret = direction_key(key.secret, sender, receiver)
    return Association(source, destination, spi(key.number, sender), reqid, port, secret)


def difference(desired: IpsecState, found: IpsecState) -> IpsecChanges:
    """The changes that turn the actual state into the desired one."""
    found = _readable(desired, found)
    kept = {one.name for one in desired.associations}
    extra = found.associations - desired.associations
    ruled = {policy.name for policy in desired.policies}
    return IpsecChanges(
        replace=tuple(sorted(one for one in extra if one.name in kept)),
        add=tuple(sorted(desired.associations - found.associations)),
        set_policies=tuple(sorted(desired.policies - found.policies)),
        drop_policies=tuple(sorted(p for p in found.policies if p.name not in ruled)),
        drop=tuple(sorted(one for one in extra if one.name not in kept)),
    )


def _readable(desired: IpsecState, found: IpsecState) -> IpsecState:
    """A kernel in lockdown shows zeros for every key: such an entry counts as the desired one."""
    known = {one.name: one for one in desired.associations}
    hidden = [one for one in found.associations if one.key == _REDACTED and one.name in known]
    if not hidden:
        return found
    seen = {msgspec.structs.replace(one, key=known[one.name].key) for one in hidden}
    return IpsecState(found.associations.difference(hidden) | seen, found.policies)


def drifts(changes: IpsecChanges) -> tuple[Drift, ...]:
    """The changes as values for logs and metrics; keys are left out."""
    return tuple(Drift(kind="xfrm", detail=detail) for detail in _describe(changes))


def _describe(changes: IpsecChanges) -> Iterator[str]:
    for one in sorted({*changes.replace, *changes.add, *changes.drop}):
        yield f"state src {one.source} dst {one.destination} spi {one.spi:#010x}"
    for policy in (*changes.set_policies, *changes.drop_policies):
        yield f"policy src {policy.source} dst {policy.destination} dport {policy.port}"
