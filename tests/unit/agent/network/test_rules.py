"""The ruleset: what it says, and that it names only our own devices and subnets."""

from agent.network.base import OverlayWanted, host_bridge
from agent.network.names import Names
from agent.network.rules import removal, ruleset
from pyswarm_core.ids import NetworkId

NAMES = Names("abc")
OPEN, CLOSED = NetworkId("open"), NetworkId("closed")


def network(network_id: NetworkId, subnet: str, internal: bool = False) -> OverlayWanted:
    return OverlayWanted(
        network_id=network_id, name=network_id, subnet=subnet, vni=4096, internal=internal,
        local_blocks=(),
    )  # fmt: skip


def test_no_network_needs_no_rules() -> None:
    assert ruleset((), NAMES) == ""


def test_internal_networks_get_no_egress_and_are_dropped_on_the_way_out() -> None:
    text = ruleset([network(OPEN, "10.1.0.0/16"), network(CLOSED, "10.2.0.0/16", True)], NAMES)
    assert "elements = { 10.1.0.0/16 }" in text
    assert f'elements = {{ "{NAMES.bridge(CLOSED)}" }}' in text


def test_only_devices_of_one_network_are_paired() -> None:
    text = ruleset([network(OPEN, "10.1.0.0/16"), host_bridge("172.30.0.0/16")], NAMES)
    bridge, vxlan = NAMES.bridge(OPEN), NAMES.vxlan(OPEN)
    assert f'"{bridge}" . "{vxlan}", "{vxlan}" . "{bridge}"' in text
    assert f'"{NAMES.vxlan("bridge")}"' not in text


def test_every_rule_names_our_own_and_the_policy_accepts() -> None:
    text = ruleset([network(OPEN, "10.1.0.0/16")], NAMES)
    rules = [line.strip() for line in text.splitlines() if line.endswith((" drop", "masquerade"))]
    assert len(rules) == 4
    assert all('"abc-*"' in rule or "@internal" in rule for rule in rules)
    assert "policy drop" not in text


def test_the_order_of_networks_does_not_matter() -> None:
    first, second = network(OPEN, "10.1.0.0/16"), network(CLOSED, "10.2.0.0/16")
    assert ruleset([first, second], NAMES) == ruleset([second, first], NAMES)


def test_the_table_is_replaced_in_one_transaction_and_removed_whether_there_or_not() -> None:
    start = removal(NAMES)
    assert start == "table inet pyswarm_abc {\n}\ndelete table inet pyswarm_abc\n"
    assert ruleset([network(OPEN, "10.1.0.0/16")], NAMES).startswith(start)
