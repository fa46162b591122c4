"""`restart: true`: tasks are replaced after an update of the dependency."""

from msgspec.structs import replace

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Decision
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.states import UpdateState
from tests.unit.controller.brain.dependencies.shop import Shop, needs, service


def shop_of(*, restart: bool = True) -> Shop:
    """A web that follows its db; all runs."""
    shop = Shop(service("db"), service("web", needs("db", restart=restart), replicas=2))
    shop.converge()
    return shop


def versions(shop: Shop) -> set[int]:
    """The spec versions of web's tasks."""
    return {task.spec_version for task in shop.desired("web")}


def test_tasks_are_replaced_after_the_dependency_was_updated() -> None:
    shop = shop_of()
    spec = shop.of("web").spec
    shop.force("db")
    assert versions(shop) == {1}
    assert shop.states("web") == ["running"] * 2, "not before the new tasks of db run"
    assert shop.of("web").update_status is not None
    shop.stop_tasks("db")
    assert shop.states("web") == ["running"] * 2
    shop.come("db")
    assert len(shop.desired("web")) == 1, "its update begins"
    shop.converge()
    assert versions(shop) == {2}
    template = shop.of("web").spec.task_template
    assert replace(template, force_update=0) == spec.task_template
    status = shop.of("web").update_status
    assert status is not None
    assert status.state is UpdateState.COMPLETED


def test_a_new_leader_goes_on_with_it() -> None:
    """All is derived from stored objects: the update of db was stored, and nothing else."""
    shop = shop_of()
    old = shop.of("db")
    shop.force("db")
    updated = shop.of("db")
    other = shop_of()
    other.apply(replace(updated, update_status=old.update_status))
    other.converge()
    assert versions(other) == {2}


def test_it_does_not_follow_a_task_that_ended_by_itself_nor_a_change_of_replicas() -> None:
    shop = shop_of()
    shop.now = Instant(shop.now + 5 * SECOND)
    shop.end("db", 1)
    shop.converge()
    shop.change("db", labels={"a": "b"})
    shop.converge()
    assert versions(shop) == {1}


def test_others_do_not_follow() -> None:
    shop = shop_of(restart=False)
    shop.force("db")
    shop.converge()
    assert versions(shop) == {1}


def test_a_dependency_that_is_made_anew_was_updated() -> None:
    shop = shop_of()
    shop.together(["db"], stopped=False)
    shop.converge()
    assert versions(shop) == {1}
    again = service("db")
    shop.apply(replace(again, id=type(again.id)("another"), template_version=1))
    shop.converge()
    assert versions(shop) == {2}


def test_restart_that_is_said_later_replaces_nothing_yet() -> None:
    shop = shop_of(restart=False)
    shop.change("web", depends_on=(needs("db", restart=True),))
    shop.converge()
    assert versions(shop) == {1}
    shop.force("db")
    shop.converge()
    assert versions(shop) == {3}


def test_a_chain_follows_link_by_link() -> None:
    shop = Shop(
        service("db"),
        service("api", needs("db", restart=True)),
        service("web", needs("api", restart=True)),
    )
    shop.converge()
    shop.force("db")
    shop.converge()
    assert versions(shop) == {2}


def test_a_user_s_update_meanwhile_is_kept() -> None:
    shop = shop_of()
    spec: ServiceSpec = shop.of("web").spec
    shop.force("db")
    shop.change("web", labels={"a": "b"})
    shop.converge()
    assert shop.of("web").spec.labels == {"a": "b"}
    assert shop.of("web").spec.depends_on == spec.depends_on
    assert len(versions(shop)) == 1


def test_nothing_is_left_to_decide() -> None:
    shop = shop_of()
    shop.force("db")
    shop.converge()
    decision: Decision = shop.decide()
    assert not decision.writes
    assert not decision.again
