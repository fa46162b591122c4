"""What operators change: nodes and networks."""

from ipaddress import IPv6Network

import msgspec
import pytest

from controller.api.changes import networks, nodes
from controller.api.queries.info import ControllerFacts, info
from pyswarm_core import specs
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, InvalidArgument
from pyswarm_core.objects import Network, PreviousSpec, Version
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.desk import Desk, Term

replace = msgspec.structs.replace
ROUTES = ["10.128.0.0/17", "0.0.0.0/0"]


def create(state: State, name: str, subnet: str = "", routes: list[str] | None = None) -> Network:
    config = (specs.IpamConfig(subnet=subnet),) if subnet else ()
    spec = specs.NetworkSpec(name=name, ipam=specs.Ipam(config=config))
    ids = Numbered(len(state.networks))
    writes, network = networks.create_network(state, spec, routes or [], NOW, ids)
    state.apply(writes)
    return network


def test_an_update_changes_the_spec_and_the_version() -> None:
    state = build.state(nodes=build.nodes(1))
    spec = specs.NodeSpec(availability=Availability.DRAIN, labels={"zone": "a"})
    _, node = nodes.update_node(state, "n1", Version(), spec, NOW)
    assert (node.spec, node.version.index, node.updated_at) == (spec, 1, NOW)
    with pytest.raises(Conflict, match="out of sequence"):
        nodes.update_node(state, "n1", Version(index=7), spec, NOW)
    with pytest.raises(InvalidArgument, match='--role: value "king"'):
        nodes.update_node(state, "n1", Version(), specs.NodeSpec(role="king"), NOW)


def test_a_nodes_role_is_what_runs_there() -> None:
    state = build.state(nodes=[build.node("n1", role="manager"), build.node("n2")])
    controllers = ("192.0.2.1:2377",)

    def update(name: str, role: str, living: tuple[str, ...] = controllers) -> str:
        spec = specs.NodeSpec(role=role)
        _, node = nodes.update_node(state, name, Version(), spec, NOW, controllers=living)
        return node.spec.role

    with pytest.raises(Conflict, match='a controller runs on node "n1"'):
        update("n1", "worker")
    with pytest.raises(Conflict, match='no controller runs on node "n2"'):
        update("n2", "manager")
    assert update("n1", "worker", ()) == "worker"
    assert update("n1", "manager", ()) == "manager"


def test_the_same_node_spec_again_changes_nothing() -> None:
    state = build.state(nodes=build.nodes(1))
    node = state.nodes[build.node("n1").id]
    assert nodes.update_node(state, "n1", Version(), node.spec, NOW) == (Writes(), node)


def test_a_node_that_is_up_is_removed_only_by_force_and_with_its_tasks() -> None:
    state = build.state(
        nodes=build.nodes(2),
        services=[build.service("web")],
        tasks=[build.task("web.1", node="n1"), build.task("web.2", node="n2")],
    )
    with pytest.raises(Conflict, match='"n1" is ready, not down'):
        nodes.remove_node(state, "n1", force=False)
    writes, _ = nodes.remove_node(state, "n1", force=True)
    state.apply(writes)
    assert list(state.nodes) == ["n2"]
    assert list(state.tasks) == ["web.2"]


def test_a_node_that_is_down_is_removed() -> None:
    state = build.state(nodes=[build.node("n1", state=NodeState.DOWN)])
    assert nodes.remove_node(state, "n1", force=False)[0].removed == ("node/n1",)


def test_a_network_gets_a_free_subnet_and_a_vni_of_its_own() -> None:
    state = build.state()
    first, second = create(state, "a"), create(state, "b")
    assert (first.subnet, second.subnet) == ("10.128.0.0/16", "10.129.0.0/16")
    assert (first.vni, second.vni, state.cluster.next_vni) == (4096, 4097, 4098)


def test_a_subnet_avoids_the_hosts_routes() -> None:
    state = build.state()
    assert create(state, "a", routes=ROUTES).subnet == "10.129.0.0/16"
    with pytest.raises(Conflict, match=r"overlaps a route of the host \(10.128.0.0/17\)"):
        create(state, "b", "10.128.4.0/24", ROUTES)
    with pytest.raises(Conflict, match="overlaps network a"):
        create(state, "b", "10.129.4.0/24", ROUTES)


def test_a_networks_name_is_taken_once() -> None:
    state = build.state()
    create(state, "a")
    with pytest.raises(AlreadyExists, match="network with name a already exists"):
        create(state, "a")


def test_a_network_is_removed_when_nobody_uses_it() -> None:
    state = build.state(networks=[build.network("app")])
    assert networks.remove_network(state, "app")[0].removed == ("network/app",)


def test_a_network_in_use_names_its_users() -> None:
    spec = build.template(networks=["app"])
    users = [build.service(f"s{n}", spec=spec) for n in range(7)]
    leaving = build.service("s0", spec=spec, removing=True)
    state = build.state(networks=[build.network("app")], services=[leaving, *users[1:]])
    with pytest.raises(Conflict, match=r'"s0" \(being removed\), service "s1".*and others'):
        networks.remove_network(state, "app")


def test_a_network_is_in_use_while_old_tasks_live() -> None:
    before = build.service("web", spec=build.template(networks=["app"]))
    after = replace(
        build.service("web", version=2, template_version=2),
        previous_specs=(PreviousSpec(version=1, spec=before.spec),),
    )
    task = build.task("web.1", node="n1")
    state = build.state(
        nodes=build.nodes(1), networks=[build.network("app")], services=[after], tasks=[task]
    )
    with pytest.raises(Conflict, match='in use by service "web"'):
        networks.remove_network(state, "app")
    state.apply(Writes(tasks=[replace(task, state=TaskState.SHUTDOWN)]))
    assert networks.remove_network(state, "app")[0]


def shaped(state: State, *configs: specs.IpamConfig, **changes: object) -> Network:
    fields = {"name": f"n{len(state.networks)}", "ipam": specs.Ipam(config=configs), **changes}
    spec = specs.NetworkSpec(**fields)  # type: ignore[arg-type]
    writes, network = networks.create_network(state, spec, (), NOW, Numbered(len(state.networks)))
    state.apply(writes)
    return network


def test_a_chosen_ipv6_subnet_is_local_and_follows_from_cluster_and_vni() -> None:
    first, again = build.state(), build.state()
    one = shaped(first, enable_ipv6=True)
    two = shaped(first, enable_ipv6=True)
    assert one.subnet6 == shaped(again, enable_ipv6=True).subnet6
    assert one.subnet6 != two.subnet6
    for network in (one, two):
        subnet6 = IPv6Network(network.subnet6)
        assert subnet6.subnet_of(IPv6Network("fd00::/8"))
        assert subnet6.prefixlen == 64
    assert shaped(first).subnet6 == ""


def test_a_given_ipv6_subnet_has_room_and_is_nobody_elses() -> None:
    state = build.state()
    six = specs.IpamConfig(subnet="fd00:9::/64")
    four = specs.IpamConfig(subnet="10.9.0.0/24")
    assert shaped(state, six, enable_ipv6=True).subnet6 == "fd00:9::/64"
    with pytest.raises(Conflict, match=r"subnet fd00:9::/80 overlaps network n0 \(fd00:9::/64\)"):
        shaped(state, specs.IpamConfig(subnet="fd00:9::/80"), enable_ipv6=True)
    small = specs.IpamConfig(subnet="fd00:8::/121")
    with pytest.raises(
        InvalidArgument, match=r"expected /120 or larger, for as many hosts as 10.9.0.0/24"
    ):
        shaped(state, four, small, enable_ipv6=True)
    enough = specs.IpamConfig(subnet="fd00:8::/120")
    assert shaped(state, four, enough, enable_ipv6=True).subnet6 == "fd00:8::/120"


def test_a_gateway_leaves_a_block_for_tasks() -> None:
    state = build.state()
    with pytest.raises(
        InvalidArgument, match=r'--gateway: value "10.9.0.4" is not valid: 10.9.0.0/29 is'
    ):
        shaped(state, specs.IpamConfig(subnet="10.9.0.0/29", gateway="10.9.0.4"))
    shaped(state, specs.IpamConfig(subnet="10.9.0.0/29", gateway="10.9.0.1"))
    shaped(state, specs.IpamConfig(subnet="10.8.0.0/28", gateway="10.8.0.4"))


def test_users_are_shown_no_key_of_encrypted_networks() -> None:
    state = build.state()
    spec = specs.NetworkSpec(name="secret", encrypted=True)
    state.apply(networks.create_network(state, spec, (), NOW, Numbered())[0])
    assert state.cluster.encryption_keys
    term = Term(Desk(state, Numbered()))
    facts = ControllerFacts("1.2.3", "memory", "192.0.2.1:2377")
    assert not info(term, facts).cluster.encryption_keys
