"""Name resolution: services, slots, tasks, addresses, on one network and several."""

from collections.abc import Sequence
from ipaddress import ip_address

import msgspec
import pytest

from agent.network.base import Backend, DesiredEndpoint, DesiredOverlay
from agent.network.dns import wire
from agent.network.dns.resolve import Answer, Directory
from agent.network.dns.wire import Query
from pyswarm_core.ids import NetworkId, ServiceId, TaskId

APP, BACK, MESH = NetworkId("net-app"), NetworkId("net-back"), NetworkId("net-mesh")
KINDS = {"A": wire.A, "AAAA": wire.AAAA, "PTR": wire.PTR, "ANY": wire.ANY, "MX": 15, "TXT": 16}


def overlay(network: NetworkId, prefix: str, **more: object) -> DesiredOverlay:
    base = DesiredOverlay(
        network_id=network,
        name=network.removeprefix("net-"),
        subnet=f"{prefix}.0.0/16",
        local_blocks=(f"{prefix}.0.0/26",),
    )
    return msgspec.structs.replace(base, **more)


OVERLAYS = (
    overlay(APP, "10.128", subnet6="fd00:128::/64"),
    overlay(BACK, "10.129", internal=True),
    overlay(MESH, "10.130", ingress=True),
)


def endpoint(
    name: str,
    *addresses: str,
    network: NetworkId = APP,
    slots: Sequence[int] = (),
    **more: object,
) -> DesiredEndpoint:
    """Backends of slots 1, 2 and so on (or `slots`), whose task ids are idSLOT."""
    numbers = slots or range(1, len(addresses) + 1)
    base = DesiredEndpoint(
        service_id=ServiceId(f"s-{name}"),
        service_name=name,
        network_id=network,
        backends=tuple(
            Backend(TaskId(f"id{slot}"), slot, address)
            for slot, address in zip(numbers, addresses, strict=True)
        ),
    )
    return msgspec.structs.replace(base, **more)


def directory(*endpoints: DesiredEndpoint) -> Directory:
    made = Directory()
    made.replace(OVERLAYS, endpoints)
    return made


def question(name: str, kind: str = "A", klass: int = wire.INTERNET) -> Query:
    return Query(
        raw=b"", id=1, flags=0, name=name, kind=KINDS[kind], klass=klass, question=b"\0" * 20
    )


def ask(
    known: Directory,
    name: str,
    kind: str = "A",
    networks: Sequence[NetworkId] = (APP,),
    turn: int = 0,
) -> list[str] | None:
    """The addresses; None: the query is forwarded."""
    found = known.answer(networks, question(name, kind), turn, wire.UDP_BYTES)
    if found is None:
        return None
    assert not found.unknown
    return [str(ip_address(row)) for row in found.rows]


def holder(known: Directory, address: str, networks: Sequence[NetworkId] = (APP,)) -> str | None:
    """The name of an address; empty: it has none; None: the query is forwarded."""
    found = known.answer(
        networks, question(ip_address(address).reverse_pointer, "PTR"), 0, wire.UDP_BYTES
    )
    if found is None:
        return None
    assert found.unknown == (not found.rows)
    labels = []
    for row in found.rows:
        while row[0]:
            labels.append(row[1 : 1 + row[0]].decode())
            row = row[1 + row[0] :]
    return ".".join(labels)


WEB = endpoint("web", "10.128.0.2", "10.128.0.3", vip="10.128.255.254", aliases=("www", "Api.x"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", ["10.128.255.254"]),
        ("www", ["10.128.255.254"]),
        ("api.x", ["10.128.255.254"]),
        ("tasks.web", ["10.128.0.2", "10.128.0.3"]),
        ("tasks.www", ["10.128.0.2", "10.128.0.3"]),
        ("2.web", ["10.128.0.3"]),
        ("2.api.x", ["10.128.0.3"]),
        ("web.2", ["10.128.0.3"]),
        ("web.2.id2", ["10.128.0.3"]),
        ("web.app", ["10.128.255.254"]),
        ("tasks.web.app", ["10.128.0.2", "10.128.0.3"]),
        ("2.web.app", ["10.128.0.3"]),
        ("3.web", []),
        ("web.3", []),
        ("web.2.id1", ["10.128.0.2"]),
        ("web.2.unknown", []),
        ("db", None),
        ("tasks.db", None),
        ("tasks", None),
        ("web.example", None),
        ("web.example.com", None),
        ("web.back", None),
        ("x.web", None),
        ("²." + "web", None),
        ("", None),
        (".", None),
    ],
)  # fmt: skip
def test_names_of_a_service(name: str, expected: list[str] | None) -> None:
    assert ask(directory(WEB), name) == expected


def test_without_a_virtual_address_the_name_is_its_backends() -> None:
    known = directory(endpoint("web", "10.128.0.2", "10.128.0.3"))
    assert ask(known, "web") == ["10.128.0.2", "10.128.0.3"]


def test_a_service_without_backends_is_known_all_the_same() -> None:
    assert ask(directory(endpoint("web")), "web") == []
    assert ask(directory(endpoint("web")), "tasks.web") == []


def test_every_turn_begins_with_another_address() -> None:
    known = directory(endpoint("web", "10.128.0.2", "10.128.0.3", "10.128.0.4"))
    firsts = [(ask(known, "web", turn=turn) or [""])[0] for turn in range(4)]
    assert firsts == ["10.128.0.2", "10.128.0.3", "10.128.0.4", "10.128.0.2"]


def test_more_than_fit_are_a_share_and_said_to_be() -> None:
    known = directory(endpoint("web", *(f"10.128.1.{n}" for n in range(200))))
    found = known.answer((APP,), question("web"), 199, wire.UDP_BYTES)
    assert found is not None
    assert found.more
    assert found.rows[:2] == (bytes((10, 128, 1, 199)), bytes((10, 128, 1, 0)))
    assert len(found.rows) == wire.rows_that_fit(question("web"), 4, wire.UDP_BYTES)
    whole = known.answer((APP,), question("web"), 0, wire.TCP_BYTES)
    assert whole is not None
    assert (len(whole.rows), whole.more) == (200, False)


def test_a_slots_address_does_not_change_while_its_task_lives() -> None:
    # An update that starts the new task first has two tasks in a slot for a while.
    known = directory(endpoint("web", "10.128.0.9", "10.128.0.2", slots=(1, 1)))
    assert len({tuple(ask(known, "1.web", turn=turn) or ()) for turn in range(4)}) == 1


def test_two_services_may_share_an_alias() -> None:
    known = directory(
        endpoint("blue", "10.128.0.2", vip="10.128.255.254", aliases=("api",)),
        endpoint("green", "10.128.0.3", vip="10.128.255.253", aliases=("api",)),
    )
    assert ask(known, "api") == ["10.128.255.254", "10.128.255.253"]


def test_a_global_services_slots_are_node_numbers_and_its_tasks_have_node_ids() -> None:
    known = directory(endpoint("mon", "10.128.0.2", slots=(7,), global_service=True))
    assert ask(known, "7.mon") == ["10.128.0.2"]
    assert ask(known, "mon.7.id7") == ["10.128.0.2"]
    assert ask(known, "mon.n0de1d.id7") == ["10.128.0.2"]
    assert ask(known, "mon.n0de1d.other") is None


def test_the_first_network_that_has_the_name_answers() -> None:
    known = directory(
        endpoint("web", "10.128.0.2", vip="10.128.255.254"),
        endpoint("web", "10.129.0.2", vip="10.129.255.254", network=BACK),
        endpoint("db", "10.129.0.3", vip="10.129.255.253", network=BACK),
    )
    assert ask(known, "web", networks=(APP, BACK)) == ["10.128.255.254"]
    assert ask(known, "web", networks=(BACK, APP)) == ["10.129.255.254"]
    assert ask(known, "web.back", networks=(APP, BACK)) == ["10.129.255.254"]
    assert ask(known, "db", networks=(APP, BACK)) == ["10.129.255.253"]


def test_a_network_without_addresses_leaves_the_word_to_the_next() -> None:
    known = directory(endpoint("web"), endpoint("web", "10.129.0.2", network=BACK))
    assert ask(known, "web", networks=(APP, BACK)) == ["10.129.0.2"]


def test_networks_that_were_not_joined_are_not_seen() -> None:
    known = directory(endpoint("db", "10.129.0.3", network=BACK))
    assert ask(known, "db", networks=(APP,)) is None
    assert ask(known, "db", networks=()) is None
    assert ask(known, "db", networks=(NetworkId("gone"),)) is None
    assert holder(known, "10.129.0.3") is None


def test_the_meshs_network_has_no_names() -> None:
    known = directory(endpoint("web", "10.130.0.3", vip="10.130.255.254", network=MESH))
    assert ask(known, "web", networks=(APP, MESH)) is None
    assert known.has_external_network((BACK, MESH))


def test_addresses_of_six_follow_from_those_of_four() -> None:
    assert ask(directory(WEB), "web", "AAAA") == ["fd00:128::fffe"]
    assert ask(directory(WEB), "tasks.web", "AAAA", turn=1) == ["fd00:128::3", "fd00:128::2"]


def test_a_network_of_four_alone_has_no_address_of_six_and_says_so() -> None:
    known = directory(endpoint("db", "10.129.0.3", network=BACK))
    assert ask(known, "db", "AAAA", networks=(BACK,)) == []


def test_a_service_on_two_networks_has_six_on_the_one_that_does() -> None:
    known = directory(endpoint("web", "10.128.0.2"), endpoint("web", "10.129.0.2", network=BACK))
    assert ask(known, "web", "AAAA", networks=(BACK, APP)) == ["fd00:128::2"]


@pytest.mark.parametrize("kind", ["MX", "TXT", "PTR"])
def test_kinds_that_nobody_has_are_empty_not_unknown(kind: str) -> None:
    assert ask(directory(WEB), "web", kind) == []
    assert ask(directory(WEB), "db", kind) is None


def test_any_is_answered_with_addresses() -> None:
    assert ask(directory(WEB), "web", "ANY") == ["10.128.255.254"]


def test_another_class_is_not_ours() -> None:
    assert directory(WEB).answer((APP,), question("web", klass=3), 0, wire.UDP_BYTES) is None


def test_addresses_have_names() -> None:
    known = directory(WEB)
    assert holder(known, "10.128.255.254") == "web"
    assert holder(known, "10.128.0.3") == "web.2.id2"
    assert holder(known, "fd00:128::3") == "web.2.id2"
    assert holder(known, "fd00:128::fffe") == "web"


def test_an_address_that_nobody_has_is_unknown_and_others_are_not_ours() -> None:
    known = directory(WEB)
    assert holder(known, "10.128.0.4") == ""
    assert holder(known, "fd00:128::4") == ""
    assert holder(known, "10.127.0.4") is None
    assert holder(known, "fd00:129::4") is None


def test_an_address_is_not_found_across_two_others() -> None:
    known = directory(endpoint("web", "10.128.10.128", "10.128.0.2"))
    assert holder(known, "10.128.10.128") == "web.1.id1"
    assert known.answer(
        (APP,), question(ip_address("128.10.128.0").reverse_pointer, "PTR"), 0, 512
    ) is None  # fmt: skip
    assert holder(directory(endpoint("w", "10.128.10.10", "10.128.7.7")), "10.128.7.7") == "w.2.id2"


NO_ADDRESSES = [
    "arpa",
    "in-addr.arpa",
    "1.in-addr.arpa",
    "x.0.128.10.in-addr.arpa",
    "300.0.128.10.in-addr.arpa",
    "ip6.arpa",
    "g" + ".0" * 31 + ".ip6.arpa",
    "ff" + ".f" * 31 + ".ip6.arpa",
]


@pytest.mark.parametrize("name", NO_ADDRESSES)
def test_half_an_address_is_not_ours(name: str) -> None:
    assert directory(WEB).answer((APP,), question(name, "PTR"), 0, wire.UDP_BYTES) is None


def test_what_is_learnt_replaces_what_was_known() -> None:
    known = directory(WEB)
    assert ask(known, "2.web") == ["10.128.0.3"]
    known.replace(OVERLAYS, [msgspec.structs.replace(WEB, backends=WEB.backends[:1])])
    assert ask(known, "2.web") == []
    known.replace(OVERLAYS, [endpoint("db", "10.128.0.7")])
    assert (ask(known, "web"), ask(known, "db")) == (None, ["10.128.0.7"])
    known.replace((), ())
    assert ask(known, "db") is None


def test_what_did_not_change_is_not_looked_at_again() -> None:
    other = endpoint("db", "10.128.0.7")
    known = directory(WEB, other)
    assert ask(known, "db") == ["10.128.0.7"]
    before = known._pages[APP]
    known.replace(OVERLAYS, [WEB, other])
    assert known._pages[APP] is before
    known.replace(OVERLAYS, [msgspec.structs.replace(WEB, vip=""), other])
    assert known._pages[APP] is not before
    assert known._pages[APP]._entries[other.key] is before._entries[other.key]


def test_a_way_out_is_any_network_that_is_not_internal() -> None:
    known = directory()
    assert known.has_external_network((APP, BACK))
    assert not known.has_external_network((BACK,))
    assert not known.has_external_network(())


def test_an_answer_of_ours_without_rows_is_no_name_error() -> None:
    assert directory(endpoint("web")).answer((APP,), question("web"), 0, 512) == Answer()


def test_an_update_results_in_what_replacing_everything_would() -> None:
    web = endpoint("web", "10.128.0.2", aliases=("www", "shared"))
    db = endpoint("db", "10.128.0.9", aliases=("shared",))
    hidden = endpoint("mesh", "10.130.0.2", network=MESH)
    steps: list[tuple[DesiredEndpoint, DesiredEndpoint | None]] = [
        (web, endpoint("web", "10.128.0.2", "10.128.0.3", aliases=("www", "shared"))),
        (web, endpoint("web", "10.128.0.3", aliases=("shared", "new"))),
        (db, None),
        (db, db),
        (hidden, endpoint("mesh", "10.130.0.3", network=MESH)),
        (web, None),
    ]
    known, now = directory(web, db, hidden), {one.key: one for one in (web, db, hidden)}
    names = ("web", "www", "shared", "new", "db", "web.1", "tasks.web", "mesh", "web.2")
    for asked in (True, False):  # an index that was built is updated, too
        for old, new in steps:
            if asked:
                ask(known, "web")
            known.update({old.key: new})
            now.pop(old.key, None)
            if new is not None:
                now[new.key] = new
            fresh = directory(*now.values())
            for name in names:
                found, desired = ask(known, name), ask(fresh, name)
                assert sorted(found or ()) == sorted(desired or ()), (name, new)
            for address in ("10.128.0.2", "10.128.0.3", "10.128.0.9"):
                reverse = question(ip_address(address).reverse_pointer, "PTR")
                answers = [one.answer((APP,), reverse, 0, 512) for one in (known, fresh)]
                assert answers[0] == answers[1]
        known.replace(OVERLAYS, [web, db, hidden])
        now = {one.key: one for one in (web, db, hidden)}
