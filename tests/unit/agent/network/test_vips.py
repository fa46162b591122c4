"""The desired rules of a task's namespace, and the size of their changes."""

from hypothesis import given
from hypothesis import strategies as st

from agent.network.base import Backend, DesiredEndpoint, DesiredOverlay
from agent.network.message import split
from agent.network.vips import ruleset
from agent.network.vips.nftables import batch
from agent.network.vips.ruleset import Ruleset, Vip, change, placed, removed, replacement
from pyswarm_core.ids import NetworkId, ServiceId, TaskId

addresses = st.lists(st.integers(1, 12).map(lambda n: f"10.1.0.{n}"), max_size=8)


def rules(**services: tuple[str, ...]) -> Ruleset:
    vips = [Vip(address=f"10.1.255.{n[1:]}", backends=backends) for n, backends in services.items()]
    return Ruleset({vip.address: vip for vip in vips})


@given(addresses.map(lambda found: tuple(dict.fromkeys(found))), addresses)
def test_prop_a_backend_that_stays_keeps_its_index_while_there_is_room(
    before: tuple[str, ...], now: list[str]
) -> None:
    after = placed(before, now)
    assert sorted(after) == sorted(set(now))
    for index, address in enumerate(before[: len(after)]):
        if address in after:
            assert after[index] == address


def test_a_changed_backend_costs_two_elements_however_many_there_are() -> None:
    many = tuple(f"10.1.{n // 200}.{n % 200 + 2}" for n in range(500))
    before, after = rules(s1=many), rules(s1=placed(many, (*many[:250], *many[251:], "10.1.9.9")))
    assert len(change(before, after)) < 300 < 16_000 < len(replacement(after))
    assert [(g.vip, g.backend) for g in removed(before, after)] == [
        (bytes((10, 1, 255, 1)), bytes((10, 1, 1, 52)))
    ]


def test_what_does_not_differ_needs_no_bytes() -> None:
    assert change(rules(s1=("10.1.0.2",)), rules(s1=("10.1.0.2",))) == b""
    assert removed(rules(s1=("10.1.0.2",)), rules(s1=("10.1.0.2",))) == []


def test_two_hundred_services_are_elements_not_rules() -> None:
    one = rules(s1=("10.1.0.2", "10.1.0.3"))
    many = rules(**{f"s{n}": ("10.1.0.2", "10.1.0.3") for n in range(200)})
    assert len(list(split(replacement(one)))) == len(list(split(replacement(many))))


def test_a_dual_stack_network_gives_every_address_its_twin() -> None:
    overlay = DesiredOverlay(
        network_id=NetworkId("n"), name="n", subnet="10.1.0.0/16", subnet6="fd00::/64",
        local_blocks=(),
    )  # fmt: skip
    endpoint = DesiredEndpoint(
        service_id=ServiceId("s"), service_name="s", network_id=NetworkId("n"), vip="10.1.255.1",
        backends=(Backend(task_id=TaskId("t"), slot=1, address="10.1.0.2"),),
    )  # fmt: skip
    found = ruleset.vip(endpoint, overlay, None)
    assert (found.address6, found.backends6) == ("fd00::ff01", ("fd00::2",))
    assert ruleset.vip(endpoint, None, None).address6 == ""


def test_a_transaction_asks_for_one_answer() -> None:
    kinds = [kind for kind, _, _ in split(replacement(rules()))]
    assert (kinds[0], kinds[-1]) == (0x10, 0x11)
    acknowledged = [b for b in (replacement(rules()),) if b.count(b"pyswarm\0") == len(kinds) - 2]
    assert acknowledged
    assert len(batch([replacement(rules())[20:60]])) == 20 + 40 + 20
