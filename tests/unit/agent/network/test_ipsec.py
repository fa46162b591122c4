"""Encrypted networks: the key of each direction, rotation, and the MTU."""

from collections.abc import Sequence
from itertools import pairwise, permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.base import DesiredOverlay, Peer, Underlay
from agent.network.encryption import ipsec
from agent.network.encryption.ipsec import (
    REKEY_PACKETS,
    Association,
    IpsecChanges,
    IpsecState,
    desired_state,
    difference,
    direction_key,
    spi,
    worn_key,
)
from agent.network.names import MARK_KIND_MASK, Names
from agent.network.overlay.plan import network_mtu
from pyswarm_core.clock import Instant
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId

NAMES = Names("abc")
ADDRESSES = {number: f"192.168.0.{number}" for number in (1, 2, 3)}
ALL = [
    EncryptionKey(number=n, secret=bytes((n % 256,)) * 20, created_at=Instant(n))
    for n in range(1, 600)
]
ROTATIONS = [tuple(reversed(ALL[max(0, last - 3) : last])) for last in range(1, 600)]
"""The keys as the controller sends them, rotation by rotation."""


def network(
    number: int, keys: Sequence[EncryptionKey], name: str = "app", peers: tuple[int, ...] = ()
) -> DesiredOverlay:
    """The network as the host of that number carries it."""
    return DesiredOverlay(
        network_id=NetworkId(name), name=name, subnet="10.128.0.0/16", vni=4097,
        node_number=number, local_blocks=(), encryption_keys=tuple(keys),
        peers=tuple(
            Peer(node_number=n, address=ADDRESSES[n], blocks=())
            for n in peers or ADDRESSES if n != number
        ),
    )  # fmt: skip


def ipsec_of(number: int, *overlays: DesiredOverlay) -> IpsecState:
    return desired_state(overlays, NAMES, Underlay(address=ADDRESSES[number]))


def towards(made: IpsecState, number: int) -> Association:
    """The association that encrypts packets to the host, according to the policy."""
    (policy,) = [one for one in made.policies if one.destination == ADDRESSES[number]]
    (found,) = [
        one for one in made.associations
        if (one.destination, one.spi, one.reqid) == (policy.destination, policy.spi, policy.reqid)
    ]  # fmt: skip
    return found


def test_what_one_host_sends_the_other_opens() -> None:
    for one, other in permutations(ADDRESSES, 2):
        sent = towards(ipsec_of(one, network(one, ALL[:1])), other)
        opened = ipsec_of(other, network(other, ALL[:1])).associations
        assert msgspec.structs.replace(sent, reqid=NAMES.request_id(one)) in opened


def test_a_host_that_is_a_rotation_ahead_or_behind_is_understood() -> None:
    for before, after in pairwise(ROTATIONS):
        for mine, yours in ((before, after), (after, before)):
            sent = towards(ipsec_of(1, network(1, mine)), 2)
            opened = ipsec_of(2, network(2, yours)).associations
            assert msgspec.structs.replace(sent, reqid=NAMES.request_id(1)) in opened


def test_rotating_takes_away_nothing_in_use() -> None:
    for before, after in pairwise(ROTATIONS):
        old, new = ipsec_of(1, network(1, before)), ipsec_of(1, network(1, after))
        changes = difference(new, old)
        assert (changes.replace, changes.drop_policies) == ((), ())
        assert towards(old, 2) in new.associations, "packets may be on their way out by it"
        assert towards(new, 2) not in changes.drop


def test_no_two_directions_and_no_two_keys_share_a_secret() -> None:
    made = {
        direction_key(key.secret, source, destination)
        for key in ALL[:3]
        for source, destination in permutations(range(1, 7), 2)
    }
    assert len(made) == 3 * 30
    assert {len(secret) for secret in made} == {ipsec.KEY_BYTES}


def test_names_of_associations_are_unique_and_allowed() -> None:
    for keys in ROTATIONS:
        made = ipsec_of(1, network(1, keys)).associations
        assert len({one.name for one in made}) == len(made)
    assert min(spi(key, source) for key in range(1, 600) for source in (1, 7)) >= 256


def test_a_host_has_one_policy_per_peer_of_all_its_encrypted_networks() -> None:
    plain = network(1, ())
    one, two = network(1, ALL[:1], "one", (2,)), network(1, ALL[:1], "two", (2, 3))
    assert ipsec_of(1, plain) == IpsecState()
    made = ipsec_of(1, plain, one, two)
    assert sorted(policy.destination for policy in made.policies) == [ADDRESSES[2], ADDRESSES[3]]
    assert {policy.mark for policy in made.policies} == {NAMES.encryption_mark}


def test_a_network_that_is_being_left_has_no_say_in_the_keys() -> None:
    leaving = network(1, ROTATIONS[4], "leaving")
    for made in (network(1, ROTATIONS[5]), network(1, [msgspec.structs.replace(
        ALL[0], created_at=Instant(99)
    )])):  # fmt: skip
        for order in ((leaving, made), (made, leaving)):
            assert ipsec_of(1, *order) == ipsec_of(1, made)


def test_the_mark_is_never_one_of_the_meshs_nor_none() -> None:
    for fleet in ("a", "abc", "zz9", "psw", "0"):
        mark = Names(fleet).encryption_mark
        assert mark & 0xFF == mark & MARK_KIND_MASK == 0
        assert mark


def encrypted_bytes(packet: int) -> int:
    """The length on the wire of a network's packet: VXLAN in UDP in ESP in IPv4."""
    datagram = 8 + 8 + 14 + packet
    encrypted = datagram + 2 + -(datagram + 2) % 4
    return 20 + 8 + 8 + encrypted + 16


@given(st.integers(200, 65535))
def test_the_mtu_is_the_largest_that_fits(underlay: int) -> None:
    mtu = ipsec.encrypted_mtu(underlay)
    assert encrypted_bytes(mtu) <= underlay < encrypted_bytes(mtu + 1)


def test_a_network_gets_the_mtu_of_what_it_is() -> None:
    encrypted, plain = network(1, ALL[:1]), network(1, ())
    assert (network_mtu(encrypted, 1500), network_mtu(plain, 1500)) == (1416, 1450)
    assert network_mtu(msgspec.structs.replace(encrypted, mtu=1300), 1500) == 1300


def applied(found: IpsecState, changes: IpsecChanges) -> IpsecState:
    """The kernel's state after the changes. It refuses to add an entry whose name exists."""
    states = {one.name: one for one in found.associations}
    for one in changes.replace:
        del states[one.name]
    for one in changes.add:
        assert one.name not in states
        states[one.name] = one
    policies = {one.name: one for one in found.policies}
    policies |= {one.name: one for one in changes.set_policies}
    for policy in changes.drop_policies:
        del policies[policy.name]
    for one in changes.drop:
        del states[one.name]
    return IpsecState(frozenset(states.values()), frozenset(policies.values()))


HOLDINGS = st.builds(
    lambda rotation, peers: ipsec_of(1, network(1, ROTATIONS[rotation], peers=peers)),
    st.integers(0, 5),
    st.sampled_from([(2,), (3,), (2, 3)]),
) | st.just(IpsecState())


@given(HOLDINGS, HOLDINGS)
def test_a_difference_applied_leaves_none(desired: IpsecState, found: IpsecState) -> None:
    assert applied(found, difference(desired, found)) == desired
    assert difference(desired, desired) == IpsecChanges()


def test_an_association_with_another_key_is_made_anew() -> None:
    desired = ipsec_of(1, network(1, ALL[:1]))
    odd, *others = sorted(desired.associations)
    found = IpsecState(
        frozenset({msgspec.structs.replace(odd, key=b"x" * 20), *others}), desired.policies
    )
    changes = difference(desired, found)
    assert [one.name for one in changes.replace] == [one.name for one in changes.add] == [odd.name]
    assert applied(found, changes) == desired


def test_a_kernel_that_hides_keys_is_believed() -> None:
    desired = ipsec_of(1, network(1, ALL[:1]))
    hidden = {msgspec.structs.replace(one, key=bytes(20)) for one in desired.associations}
    assert difference(desired, IpsecState(frozenset(hidden), desired.policies)) == IpsecChanges()


@pytest.mark.parametrize("lost", ["associations", "policies"])
def test_drift_names_what_is_lost_and_no_key(lost: str) -> None:
    desired = ipsec_of(1, network(1, ALL[:1]))
    found = msgspec.structs.replace(desired, **{lost: frozenset()})
    told = ipsec.drifts(difference(desired, found))
    assert {(drift.kind, drift.detail.split()[0]) for drift in told} == {
        ("xfrm", {"associations": "state", "policies": "policy"}[lost])
    }
    assert not any(one.key.hex() in str(told) for one in desired.associations)


def test_a_key_is_worn_once_half_of_an_associations_packets_are_sent() -> None:
    first, second = network(1, ROTATIONS[0]), network(1, ROTATIONS[2])
    assert worn_key([], {}) == worn_key([first], {}) == 0
    assert worn_key([first], {spi(1, 1): REKEY_PACKETS - 1}) == 0
    assert worn_key([first], {spi(1, 1): REKEY_PACKETS}) == 1
    # Neither the previous sending key nor the packets of other hosts count.
    full = {spi(1, 1): REKEY_PACKETS, spi(2, 7): REKEY_PACKETS, spi(3, 1): REKEY_PACKETS}
    assert worn_key([second], full) == 0
    assert worn_key([second], full | {spi(2, 1): REKEY_PACKETS}) == 2
