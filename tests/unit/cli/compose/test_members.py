"""Services and containers of a project: their names, numbers and order."""

import pytest
from msgspec.structs import replace

from cli.compose import names
from cli.compose.members import held, in_order, members
from pyswarm_core.clock import Instant
from pyswarm_core.ids import ServiceId
from pyswarm_core.specs import ContainerMode, GlobalMode
from tests.unit.cli.compose import made


@pytest.mark.parametrize(
    ("wanted", "needs", "found"),
    [
        ("abc", {}, "abc"),
        ("abc", {"a": "b", "b": "c"}, "cba"),
        ("acb", {"a": "b"}, "bac"),
        ("ab", {"a": "x"}, "ab"),
        ("dabc", {"d": "abc", "c": "b"}, "abcd"),
    ],
)
def test_each_name_follows_those_that_it_needs(
    wanted: str, needs: dict[str, str], found: str
) -> None:
    assert "".join(names.ordered(wanted, needs)) == found


def test_a_cycle_ends() -> None:
    assert sorted(names.ordered("abc", {"a": "b", "b": "c", "c": "a"})) == ["a", "b", "c"]


def test_the_services_are_in_the_order_of_their_names_without_those_that_go() -> None:
    oneoff = {**made.labels("web"), "com.docker.compose.oneoff": "True"}
    found = members(
        "shop",
        [
            made.summary("web-10"),
            made.summary("web-2"),
            made.summary("run", mode=ContainerMode(), labels=oneoff),
            made.summary("plain", labels={}),
        ],
    )
    assert [one.name for one in found] == ["plain", "web-2", "web-10"]


def test_services_start_after_what_they_need_and_stop_before_it() -> None:
    found = [made.member("app", "db", "cache"), made.member("db"), made.member("cache", "db")]
    assert [one.name for one in in_order(found)] == ["db", "cache", "app"]
    assert [one.name for one in in_order(found, reverse=True)] == ["app", "cache", "db"]


def test_a_slot_has_the_number_of_its_container_and_its_last_task() -> None:
    views = [
        made.view("web", "2", made.EXITED, task="old", created_at=Instant(1)),
        made.view("web", "2", task="new", created_at=Instant(2)),
        made.view("web", "10", task="ten"),
        made.view("web", "1", made.EXITED, task="one", created_at=Instant(3)),
        made.view("web", "1", task="runs", created_at=Instant(2)),
    ]
    found = held("shop", views, [made.member("web", replicas=10)])
    assert [(one.name, one.view.task_id) for one in found] == [
        ("shop-web-1", "runs"),
        ("shop-web-2", "new"),
        ("shop-web-10", "ten"),
    ]


def test_ended_tasks_of_slots_that_were_given_up_are_left_out() -> None:
    views = [made.view("web", "1"), made.view("web", "2", made.EXITED), made.view("web", "3")]
    found = held("shop", views, [made.member("web", replicas=1)])
    assert [one.number for one in found] == [1, 3]


def test_tasks_of_a_global_service_are_numbered_by_their_nodes() -> None:
    views = [
        made.view("edge", "nodeb", node_name="host10"),
        made.view("edge", "nodea", node_name="host2"),
    ]
    found = held("shop", views, [made.member("edge", mode=GlobalMode())])
    assert [(one.name, one.view.node_name) for one in found] == [
        ("shop-edge-1", "host2"),
        ("shop-edge-2", "host10"),
    ]


def test_a_container_of_run_keeps_its_name_and_comes_last() -> None:
    run = replace(
        made.view("web", ""), name="shop-web-run-1", service_name="", service_id=ServiceId("run")
    )
    found = held("shop", [run, made.view("web", "1")], [made.member("web")])
    assert [(one.name, one.number) for one in found] == [("shop-web-1", 1), ("shop-web-run-1", 0)]
