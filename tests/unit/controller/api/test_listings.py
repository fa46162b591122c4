"""What a request lists, and the members of a network in the order in which they are sent."""

import pytest
from msgspec.structs import replace

from controller.api.queries import listings
from controller.api.queries.lists import TaskQuery
from controller.api.streams import Members, send_members
from controller.brain.orchestrator.quarantine import Failure, Stage
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Block
from pyswarm_core.views import NetworkPeer
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.fixtures.desk import Desk

NET = NetworkId("net")
BLOCK = Block(cidr="10.128.0.0/26", node_number=1)


def desk() -> Desk:
    on_net = build.template(networks=["net"])
    services = [build.service("web", spec=on_net), build.service("db", spec=on_net)]
    tasks = [build.task("web.1", node="n1")]
    networks = [build.network("net")]
    state = build.state(nodes=build.nodes(1), services=services, tasks=tasks, networks=networks)
    return Desk(state, Numbered())


def test_tasks_come_with_their_spec_only_if_the_query_names_them() -> None:
    for query, has_spec in [(TaskQuery(), False), (TaskQuery(tasks=("web.1",)), True)]:
        listing = listings.tasks(desk(), query)
        (task_id,) = finish(listing.found)
        shown = listing.view(task_id)
        assert shown is not None
        assert (getattr(shown, "spec", None) is not None) is has_spec


def test_services_are_listed_as_quarantined_and_global_ones_weigh_the_nodes() -> None:
    leader = desk()
    leader.state.apply(Writes(objects=(build.service("agent", replicas=None),)))
    leader.quarantine.hold([Failure(Stage.DECIDE, "service/web", "broken")])
    listing = listings.services(leader, ())
    found = finish(listing.found)
    assert found == ["agent", "db", "web"]
    assert [listing.work(service_id) for service_id in found] == [2, 0, 0]
    assert [getattr(listing.view(one), "quarantined", None) for one in found] == [
        False,
        False,
        True,
    ]


async def test_a_networks_services_are_sent_by_name_then_its_hosts() -> None:
    sent: list[str] = []

    async def send(told: Members) -> None:
        sent.append(told.kind)
        sent.extend(getattr(one, "name", "") for one in told.found if one is not None)

    await send_members(desk(), NET, lambda *_: True, send)
    assert sent == ["services", "db", "services", "web", "peers"]


@pytest.mark.parametrize(("seen", "found"), [("web", ["web"]), ("n1", ["n1"])])
async def test_a_caller_is_sent_the_services_and_the_hosts_that_it_may_see(
    seen: str, found: list[str]
) -> None:
    sent: list[str] = []

    async def send(told: Members) -> None:
        sent.extend(
            one.node_name if isinstance(one, NetworkPeer) else one.name  # type: ignore[attr-defined]
            for one in told.found
            if one is not None
        )

    leader = desk()
    leader.state.apply(Writes(objects=(replace(build.network("net"), blocks=(BLOCK,)),)))
    await send_members(leader, NET, lambda _, object_id: object_id == seen, send)
    assert sent == found
