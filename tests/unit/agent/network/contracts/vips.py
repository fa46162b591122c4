"""The contract of every Vips: virtual addresses inside tasks' namespaces."""

import msgspec
import pytest

from agent.network.base import DesiredEndpoint, EndpointKey
from pyswarm_core.ids import ServiceId, TaskId
from tests.unit.agent.network.contracts.bench import (
    ADDRESSES,
    APP,
    VIP,
    A,
    B,
    Bench,
    carry,
    endpoint,
    overlay,
    plug_in,
)

OTHER_VIP = "10.128.255.253"


def other() -> DesiredEndpoint:
    return msgspec.structs.replace(endpoint(A, vip=OTHER_VIP), service_id=ServiceId("other"))


def take(bench: Bench, *endpoints: DesiredEndpoint) -> None:
    parts = bench.dataplane(1).parts

    async def work() -> None:
        parts.vips.set_desired(parts.overlay.carried, endpoints)
        assert await parts.vips.sync() == []

    bench.run(1, work)


def change(bench: Bench, key: EndpointKey, now: DesiredEndpoint | None) -> None:
    parts = bench.dataplane(1).parts

    async def work() -> None:
        networks = parts.vips.update_desired(parts.overlay.carried, {key: now})
        assert networks == {APP}
        assert await parts.vips.sync(networks) == []

    bench.run(1, work)


def leads(bench: Bench, task: TaskId, address: str) -> set[str] | None:
    """The backends of the task's connections to an address; None if it is not translated."""
    found = bench.run(1, lambda: bench.dataplane(1).parts.vips.backends(task, address))
    return None if found is None else set(found)


class VipsContract:
    """Inherit and provide the fixture `bench`, which removes everything from both hosts
    afterwards.
    """

    @pytest.fixture
    def task(self, bench: Bench) -> TaskId:
        """A task on the first host's network, which has two services already."""
        carry(bench, 1, overlay(bench, 1, APP))
        take(bench, endpoint(A, B), other())
        plug_in(bench, 1, A, bench.dataplane(1).parts.vips)
        return A

    def test_a_new_task_has_every_virtual_address_of_its_network(
        self, bench: Bench, task: TaskId
    ) -> None:
        assert leads(bench, task, VIP) == set(ADDRESSES.values())
        assert leads(bench, task, OTHER_VIP) == {ADDRESSES[A]}
        assert leads(bench, task, "10.128.255.1") is None
        assert leads(bench, TaskId("nobody"), VIP) is None

    def test_a_change_reaches_tasks_that_run_and_leaves_other_services(
        self, bench: Bench, task: TaskId
    ) -> None:
        key = endpoint().key
        change(bench, key, endpoint(B))
        assert leads(bench, task, VIP) == {ADDRESSES[B]}
        change(bench, key, endpoint())
        assert leads(bench, task, VIP) == set()
        change(bench, key, None)
        assert leads(bench, task, VIP) is None
        assert leads(bench, task, OTHER_VIP) == {ADDRESSES[A]}

    def test_taking_all_anew_forgets_what_is_not_named(self, bench: Bench, task: TaskId) -> None:
        take(bench, endpoint(A))
        assert leads(bench, task, VIP) == {ADDRESSES[A]}
        assert leads(bench, task, OTHER_VIP) is None

    def test_disturbed_rules_are_noticed_and_healed(self, bench: Bench, task: TaskId) -> None:
        part = bench.dataplane(1).parts.vips
        assert bench.run(1, part.check) == ()
        bench.disturb_task(1, task)
        (drift,) = bench.run(1, part.check)
        assert (drift.kind, drift.detail) == ("rules", f"task {task}")
        take(bench, endpoint(A, B), other())
        assert bench.run(1, part.check) == ()
        assert leads(bench, task, VIP) == set(ADDRESSES.values())

    def test_a_task_that_went_is_forgotten(self, bench: Bench, task: TaskId) -> None:
        parts = bench.dataplane(1).parts
        bench.run(1, lambda: parts.overlay.detach(task, parts.vips))
        assert leads(bench, task, VIP) is None
        assert bench.run(1, parts.vips.check) == ()
