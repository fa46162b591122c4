"""The contract of every Dataplane, the kernel's and the one in memory."""

from contextlib import suppress

import msgspec
import pytest

from agent.network.base import Attachment, NetworkFailed, Peer
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import ServiceId, TaskId
from tests.unit.agent.network.contracts.bench import (
    ADDRESSES,
    APP,
    OTHER,
    SIX,
    VIP,
    A,
    B,
    Bench,
    attach,
    both,
    check,
    detach,
    endpoint,
    found,
    overlay,
    sync,
    sync_these,
    update,
)


class DataplaneContract:
    """Inherit and provide the fixture `bench`, which removes everything from both hosts
    afterwards.
    """

    def test_tasks_of_one_network_reach_each_other(self, bench: Bench) -> None:
        for number, task in ((1, A), (2, B)):
            sync(bench, number, APP)
            attach(bench, number, task, APP, f"10.128.{number}.2")
        assert bench.reaches(1, A, "10.128.2.2")
        assert bench.reaches(2, B, "10.128.1.2")

    def test_tasks_of_different_networks_do_not(self, bench: Bench) -> None:
        for number in (1, 2):
            sync(bench, number, APP, OTHER)
        attach(bench, 1, A, APP, "10.128.1.2")
        attach(bench, 1, B, OTHER, "10.129.1.2")
        attach(bench, 2, TaskId("task-c"), OTHER, "10.129.2.2")
        assert not bench.reaches(1, A, "10.129.1.2")
        assert not bench.reaches(1, A, "10.129.2.2")

    def test_without_the_peer_nothing_is_reached(self, bench: Bench) -> None:
        sync(bench, 1, APP)
        attach(bench, 1, A, APP, "10.128.1.2")
        assert not bench.reaches(1, A, "10.128.2.2")

    def test_attaching_twice_changes_nothing(self, bench: Bench) -> None:
        sync(bench, 1, APP)
        path = attach(bench, 1, A, APP, "10.128.1.2")
        assert attach(bench, 1, A, APP, "10.128.1.2") == path
        assert found(bench, 1) == {A}
        assert check(bench, 1) == ()

    def test_a_task_joins_a_network_and_leaves_it(self, bench: Bench) -> None:
        for number in (1, 2):
            sync(bench, number, APP, OTHER)
        attach(bench, 1, A, APP, "10.128.1.2")
        attach(bench, 2, B, OTHER, "10.129.2.2")
        assert not bench.reaches(1, A, "10.129.2.2")
        joined = [
            Attachment(network_id=APP, address="10.128.1.2"),
            Attachment(network_id=OTHER, address="10.129.1.2", ifname="eth1"),
        ]
        dataplane = bench.dataplane(1)
        bench.run(1, lambda: dataplane.attach(A, joined))
        assert bench.reaches(1, A, "10.129.2.2")
        bench.run(1, lambda: dataplane.attach(A, joined[:1], [OTHER]))
        assert not bench.reaches(1, A, "10.129.2.2")
        attach(bench, 1, TaskId("task-c"), OTHER, "10.129.1.2")
        assert bench.reaches(1, TaskId("task-c"), "10.129.2.2")
        assert check(bench, 1) == ()

    def test_detaching_is_idempotent_and_frees_the_address(self, bench: Bench) -> None:
        sync(bench, 1, APP)
        attach(bench, 1, A, APP, "10.128.1.2")
        detach(bench, 1, A)
        detach(bench, 1, A)
        assert found(bench, 1) == set()
        attach(bench, 1, B, APP, "10.128.1.2")
        assert found(bench, 1) == {B}

    def test_a_task_is_attached_again_as_soon_as_it_was_detached(self, bench: Bench) -> None:
        sync(bench, 1, APP)
        for _ in range(20):
            attach(bench, 1, A, APP, "10.128.1.2")
            detach(bench, 1, A)
        attach(bench, 1, A, APP, "10.128.1.2")
        assert found(bench, 1) == {A}
        assert check(bench, 1) == ()

    def test_a_network_that_was_not_synced_is_named(self, bench: Bench) -> None:
        with pytest.raises(NetworkFailed, match="netother"):
            attach(bench, 1, A, OTHER, "10.129.1.2")
        assert found(bench, 1) == set()

    @pytest.mark.parametrize("address", ["10.128.2.2", "10.128.1.0", "10.128.1.1", "10.128.1.63"])
    def test_an_address_that_is_not_the_hosts_to_give_is_refused(
        self, bench: Bench, address: str
    ) -> None:
        sync(bench, 1, APP)
        with pytest.raises(NetworkFailed, match=r"10\.128\.1\.0/26"):
            attach(bench, 1, A, APP, address)

    def test_a_synced_host_has_no_drift(self, bench: Bench) -> None:
        sync(bench, 1, APP, OTHER)
        assert check(bench, 1) == ()
        sync(bench, 1, APP)
        assert check(bench, 1) == ()
        sync(bench, 1)
        assert check(bench, 1) == ()

    def test_a_peer_that_the_kernel_refuses_costs_that_peer_alone(self, bench: Bench) -> None:
        stranger = Peer(node_number=9, address="2001:db8::9", blocks=("10.128.9.0/26",))
        for number, task in ((1, A), (2, B)):
            odd = overlay(bench, number, APP)
            odd = msgspec.structs.replace(odd, peers=(stranger, *odd.peers))
            other = overlay(bench, number, OTHER)
            faults = sync_these(bench, number, odd, other, endpoints=(endpoint(A, B),))
            assert {fault.network_id for fault in faults} == {APP}
            assert all("2001:db8::9" in fault.reason for fault in faults)
            assert all(fault.blocks and not fault.whole for fault in faults)
            attach(bench, number, task, APP, ADDRESSES[task])
            attach(bench, number, TaskId(f"plain{number}"), OTHER, f"10.129.{number}.2")
        assert bench.reaches(1, A, ADDRESSES[B])
        assert bench.reaches(1, TaskId("plain1"), "10.129.2.2")
        assert bench.answers(1, A, VIP) == set(ADDRESSES.values())
        assert check(bench, 1), "it is tried again"
        plain = (overlay(bench, 1, APP), overlay(bench, 1, OTHER))
        assert sync_these(bench, 1, *plain) == ()
        assert check(bench, 1) == ()

    def test_a_virtual_address_reaches_every_backend_the_caller_included(
        self, bench: Bench
    ) -> None:
        both(bench, endpoint(A, B))
        for number, task in ((1, A), (2, B)):
            assert bench.answers(number, task, VIP) == set(ADDRESSES.values())
            assert check(bench, number) == ()

    def test_a_service_that_changes_changes_for_tasks_that_run(self, bench: Bench) -> None:
        both(bench)
        for desired in (endpoint(B), endpoint(A, B), endpoint(A)):
            both(bench, desired)
            addresses = {backend.address for backend in desired.backends}
            assert bench.answers(1, A, VIP) == bench.answers(2, B, VIP) == addresses

    def test_an_update_changes_its_endpoints_and_nothing_else(self, bench: Bench) -> None:
        other = msgspec.structs.replace(
            endpoint(A, vip="10.128.255.253"), service_id=ServiceId("o")
        )
        both(bench, endpoint(A), other)
        changed = endpoint(A, B)
        for number in (1, 2):
            assert update(bench, number, changed.key, changed) == ()
            assert check(bench, number) == ()
        assert bench.answers(1, A, VIP) == bench.answers(2, B, VIP) == set(ADDRESSES.values())
        assert bench.answers(1, A, "10.128.255.253") == {ADDRESSES[A]}
        for number in (1, 2):
            update(bench, number, changed.key, None)
            assert check(bench, number) == ()
        assert bench.answers(1, A, VIP) == set()
        assert bench.answers(1, A, "10.128.255.253") == {ADDRESSES[A]}
        both(bench, changed, other)
        assert bench.answers(2, B, VIP) == set(ADDRESSES.values())

    def test_a_service_without_backends_or_gone_answers_nobody(self, bench: Bench) -> None:
        both(bench, endpoint(A, B))
        both(bench, endpoint())
        assert bench.answers(1, A, VIP) == set()
        both(bench)
        assert bench.answers(1, A, VIP) == set()

    def test_a_virtual_address_of_another_network_reaches_nothing(self, bench: Bench) -> None:
        desired = (endpoint(A),)
        sync(bench, 1, APP, OTHER, endpoints=desired)
        attach(bench, 1, A, APP, ADDRESSES[A])
        attach(bench, 1, B, OTHER, "10.129.1.2")
        assert bench.answers(1, B, VIP) == set()

    def test_an_encrypted_network_reaches_or_refuses_its_tasks_and_harms_no_other(
        self, bench: Bench
    ) -> None:
        kept = (EncryptionKey(number=1, secret=bytes(range(20))),)
        refusals = []
        for number, task in ((1, A), (2, B)):
            sync_these(
                bench, number, overlay(bench, number, APP, kept), overlay(bench, number, OTHER)
            )
            assert check(bench, number) == ()
            try:
                attach(bench, number, task, APP, ADDRESSES[task])
            except NetworkFailed as error:
                refusals.append(str(error))
                attach(bench, number, task, OTHER, f"10.129.{number}.2")
        words = "is encrypted: this host's kernel has no IPsec ESP"
        assert [words in refusal for refusal in refusals] in ([], [True, True])
        assert bench.reaches(1, A, "10.129.2.2" if refusals else ADDRESSES[B])

    def test_an_encrypted_network_without_keys_is_refused_and_harms_no_other(
        self, bench: Bench
    ) -> None:
        for number, task in ((1, A), (2, B)):
            keyless = msgspec.structs.replace(overlay(bench, number, APP), encrypted=True)
            sync_these(bench, number, keyless, overlay(bench, number, OTHER))
            assert check(bench, number) == ()
            with pytest.raises(NetworkFailed, match="network app is encrypted: "):
                attach(bench, number, task, APP, ADDRESSES[task])
            attach(bench, number, task, OTHER, f"10.129.{number}.2")
        assert bench.reaches(1, A, "10.129.2.2")

    def test_a_dual_stack_network_has_both_versions_or_refuses_its_tasks_and_harms_no_other(
        self, bench: Bench
    ) -> None:
        refusals = []
        for number, task in ((1, A), (2, B)):
            dual = msgspec.structs.replace(overlay(bench, number, APP), subnet6="fd00:128::/64")
            sync_these(bench, number, dual, overlay(bench, number, OTHER))
            attach(bench, number, TaskId(f"plain{number}"), OTHER, f"10.129.{number}.2")
            try:
                attach(bench, number, task, APP, ADDRESSES[task])
            except NetworkFailed as error:
                refusals.append(str(error))
            assert check(bench, number) == ()
        words = "network app is dual-stack: this host's kernel has no IPv6"
        assert [words in refusal for refusal in refusals] in ([], [True, True])
        assert bench.reaches(1, TaskId("plain1"), "10.129.2.2")
        if refusals:
            return
        assert not bench.reaches(1, TaskId("plain1"), SIX[B]), "of a network that it is not on"
        for number, near, far in ((1, A, B), (2, B, A)):
            assert bench.reaches(number, near, ADDRESSES[far])
            assert bench.reaches(number, near, SIX[far])

    def test_without_the_peer_nothing_is_reached_by_ipv6(self, bench: Bench) -> None:
        dual = msgspec.structs.replace(overlay(bench, 1, APP), subnet6="fd00:128::/64", peers=())
        sync_these(bench, 1, dual)
        with suppress(NetworkFailed):
            attach(bench, 1, A, APP, ADDRESSES[A])
            attach(bench, 1, B, APP, "10.128.1.3")
            assert bench.reaches(1, A, "fd00:128::103")
            assert not bench.reaches(1, A, SIX[B])

    def test_turned_off_the_fast_path_is_gone_and_turned_on_it_is_back(self, bench: Bench) -> None:
        both(bench)
        for on in (False, True):
            bench.restart(1, fast_path=on)
            sync(bench, 1, APP)
            assert attach(bench, 1, A, APP, ADDRESSES[A])
            sync(bench, 1, APP)
            use = bench.dataplane(1).parts.fast_path.use
            assert use == ((True, 1, 1) if on else (False, 0, 0))
            assert bool(bench.fast_path_rules(1)) is on
            assert check(bench, 1) == ()
            assert bench.reaches(1, A, ADDRESSES[B])
