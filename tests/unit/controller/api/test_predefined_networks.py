"""The networks bridge, host and none, which every host has; and which networks nothing uses."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from controller.api.changes.networks import create_network, remove_network
from controller.api.queries.lists import find_all
from controller.api.queries.lookup import find
from controller.api.queries.members import network_service, services_on
from controller.api.queries.views import listed
from controller.brain.slices import finish
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.kinds import NETWORK, SERVICE
from pyswarm_core.objects import PreviousSpec, TaskAddress, TaskDetail
from pyswarm_core.specs import NetworkSpec, ServiceSpec
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import Numbered

WORDS = ["bridge", "host", "none"]


def fleet(**services: Sequence[str]) -> State:
    """A fleet with the networks app, back and the ingress network mesh; and the services."""
    mesh = build.network("mesh", "10.130.0.0/16", 4098)
    networks = [
        build.network("app"),
        build.network("back", "10.129.0.0/16", 4097),
        replace(mesh, spec=replace(mesh.spec, ingress=True)),
    ]
    made = [
        build.service(name, spec=build.template(networks=joined))
        for name, joined in services.items()
    ]
    return build.state(nodes=build.nodes(1), networks=networks, services=made)


def names(state: State, *filters: str) -> list[NetworkId]:
    return finish(find_all(state, NETWORK, filters))


@pytest.mark.parametrize("word", WORDS)
def test_they_are_found_listed_and_shown_but_not_removed(word: str) -> None:
    state = fleet()
    assert find(state, NETWORK, word).spec.name == word
    assert word in names(state)
    shown = listed(state, NETWORK, NetworkId(word))
    assert shown is not None
    assert NETWORK.decode(shown.value) == find(state, NETWORK, word)
    with pytest.raises(Conflict, match=f"^{word} is a pre-defined network and cannot be removed$"):
        remove_network(state, word)
    with pytest.raises(InvalidArgument, match=f"not permitted on predefined {word} network"):
        create_network(state, NetworkSpec(name=word), (), Instant(1), Numbered())


def test_a_beginning_of_their_names_is_no_prefix_of_an_id() -> None:
    with pytest.raises(NotFound, match=r"^network bri not found$"):
        find(fleet(), NETWORK, "bri")
    assert "bridge" not in finish(find_all(fleet(), SERVICE, ()))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["driver=bridge"], ["bridge"]),
        (["driver=null"], ["none"]),
        (["driver=overlay"], ["app", "back", "mesh"]),
        (["driver=bridge", "driver=host"], ["bridge", "host"]),
        (["type=builtin"], WORDS),
        (["type=custom"], ["app", "back", "mesh"]),
        (["scope=local"], WORDS),
        (["scope=swarm"], ["app", "back", "mesh"]),
        (["scope=global"], []),
        (["name=ack"], ["back"]),
        (["name=^b"], ["back", "bridge"]),
        (["name=^app$"], ["app"]),
        (["name=e$"], ["bridge", "none"]),
        (["id=bri"], ["bridge"]),
        (["label=a"], []),
        (["dangling=true"], ["back"]),
        (["dangling=1", "name=app"], []),
        (["dangling=false"], ["app", "bridge", "host", "mesh", "none"]),
    ],
)
def test_filters_are_dockers(given: list[str], found: list[str]) -> None:
    assert names(fleet(web=["app"]), *given) == found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("type=built-in", "expected one of custom, builtin; did you mean builtin?"),
        ("scope=host", "expected one of swarm, global, local"),
        ("dangling=maybe", "expected one of true, false, 1, 0"),
        ("drivr=x", "expected one of dangling, driver, id, label, name, scope, type"),
        ("dangling", "expected KEY=VALUE"),
    ],
)
def test_other_filters_are_refused(given: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told.replace("?", r"\?")):
        names(fleet(), given)


def test_a_network_is_in_use_while_tasks_of_an_earlier_spec_have_not_ended() -> None:
    before = build.service("web", spec=build.template(networks=["app"]))
    previous = (PreviousSpec(version=1, spec=before.spec),)
    after = replace(
        build.service("web", spec=build.template(networks=["back"]), version=2, template_version=2),
        previous_specs=previous,
    )
    networks = [build.network("app"), build.network("back", "10.129.0.0/16", 4097)]
    task = build.task("web.1", node="n1", version=1)
    for tasks, unused in (([task], []), ([], ["app"])):
        state = build.state(nodes=build.nodes(1), networks=networks, services=[after], tasks=tasks)
        assert names(state, "dangling=true") == unused


def test_nothing_is_unused_while_a_service_cannot_be_read() -> None:
    state = fleet()
    assert names(state, "dangling=true") == ["app", "back"]
    state.unreadable["service/gone"] = "it is of a later version"
    assert names(state, "dangling=true") == []


def test_their_members_are_the_tasks_without_another_network() -> None:
    held = TaskDetail(addresses=(TaskAddress(NetworkId("bridge"), "10.127.0.2"),))
    state = fleet(alone=[], named=["bridge"], app=["app"], on_host=["host"])
    for name in ("alone", "named", "app", "on_host"):
        detail = held if name == "alone" else TaskDetail()
        state.apply(Writes(tasks=[build.task(f"{name}.1", node="n1", detail=detail)]))
    bridge = NetworkId("bridge")
    assert finish(services_on(state, bridge)) == ["alone", "named"]
    assert finish(services_on(state, NetworkId("host"))) == ["on_host"]
    assert finish(services_on(state, NetworkId("none"))) == []
    (alone,) = filter(None, network_service(state, bridge, ServiceId("alone")))
    (task,) = alone.tasks
    assert (task.name, task.address, task.container_id) == ("alone.1", "10.127.0.2", task.task_id)
    assert not [*filter(None, network_service(state, bridge, ServiceId("app")))]


def test_a_container_has_the_id_that_ps_shows() -> None:
    container = build.container("db")
    state = build.state(
        nodes=build.nodes(1), services=[container], tasks=[build.task("db.1", node="n1")]
    )
    (found,) = filter(None, network_service(state, NetworkId("bridge"), container.id))
    assert [(one.name, one.container_id) for one in found.tasks] == [("db", container.id)]
    assert isinstance(container.spec, ServiceSpec)
