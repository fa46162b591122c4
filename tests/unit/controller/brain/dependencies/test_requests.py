"""What requests may say of dependencies."""

import pytest
from msgspec.structs import replace

from controller.api.changes.services import Rollback, create_service, rollback_service
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.objects import Service
from pyswarm_core.stacks.dependencies import cycle, dependencies_first
from tests.unit.controller.brain.dependencies.shop import HEALTHY, STARTED, Shop, needs, service


def create(shop: Shop, made: Service) -> None:
    """A user creates the service."""
    create_service(shop.state, made.spec, (), shop.now, shop.ids)


def test_a_circle_is_refused_with_its_path() -> None:
    shop = Shop(service("b", needs("c")), service("c", needs("a")))
    with pytest.raises(InvalidArgument, match=r"in a circle: a → b → c → a$"):
        create(shop, service("a", needs("b")))
    create(shop, service("a"))
    create(shop, service("a", needs("elsewhere")))


def test_an_update_may_not_close_one_either() -> None:
    shop = Shop(service("a", needs("b")), service("b"))
    with pytest.raises(InvalidArgument, match="b → a → b"):
        shop.change("b", depends_on=(needs("a"),))
    assert shop.of("b").spec.depends_on == ()


def test_nor_a_rollback() -> None:
    shop = Shop(service("a", needs("b")), service("b"))
    shop.converge()
    shop.change("a", depends_on=())
    shop.change("b", depends_on=(needs("a"),))
    with pytest.raises(Conflict, match="in a circle: a → b → a"):
        rollback_service(shop.state, Rollback("a", None, 1), (), shop.now, shop.ids)


def test_health_needs_a_check() -> None:
    shop = Shop(service("db", check=("NONE",)), service("other"))
    with pytest.raises(InvalidArgument, match=r"db.*its health check is switched off.*expected"):
        create(shop, service("web", needs("db", HEALTHY)))
    create(shop, service("web", needs("db", STARTED)))
    create(shop, service("web", needs("other", HEALTHY)))


@pytest.mark.parametrize(
    ("edges", "path"),
    [
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b", "c"], "c": ["d"], "d": ["a"]}, ["a", "c", "d", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, []),
    ],
)
def test_the_shortest_circle_of_a_service_is_found(
    edges: dict[str, list[str]], path: list[str]
) -> None:
    assert cycle("a", lambda name: edges.get(name, [])) == path


@pytest.mark.parametrize(
    ("needed", "order"),
    [
        ({}, []),
        ({"a": [], "b": []}, ["a", "b"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["b", "elsewhere"], "d": []}, ["d", "b", "c", "a"]),
        ({"web": ["db"], "db": [], "app": ["web"]}, ["db", "web", "app"]),
        ({"a": ["b"], "b": ["a"]}, ["b", "a"]),
    ],
)
def test_services_are_put_in_the_order_of_their_dependencies(
    needed: dict[str, list[str]], order: list[str]
) -> None:
    assert dependencies_first(needed) == order


def test_large_graphs_are_walked_once() -> None:
    layers = {
        f"{layer}.{number}": [f"{layer + 1}.{other}" for other in range(30)]
        for layer in range(30)
        for number in range(30)
    }
    calls: list[str] = []

    def needed(name: str) -> list[str]:
        calls.append(name)
        return layers.get(name, [])

    assert cycle("0.0", needed) == []
    assert len(calls) == len(set(calls))


def test_a_container_that_is_renamed_into_a_circle_is_refused() -> None:
    shop = Shop(service("a", needs("b")), service("c", needs("a")))
    spec = replace(shop.of("c").spec, name="b")
    with pytest.raises(InvalidArgument, match="b → a → b"):
        create(shop, replace(shop.of("c"), spec=spec))
