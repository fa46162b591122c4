"""Stacks that are refused, before anything changes."""

from typing import Any

import pytest
from msgspec.structs import replace

from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.stacks.labels import CONTAINER_NAME
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.stacks import SHOP, actions, applied, network, payload, service, stack, volume


@pytest.fixture
def state() -> State:
    return build.state()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            replace(SHOP, networks=(network("shop", internal=True),)),
            'network "shop_default" exists with other settings, which cannot change'
            r" \(Internal: false -> true\)",
        ),
        (
            replace(SHOP, volumes=(volume("shop", "data", driver_opts={"size": "1g"}),)),
            r'volume "shop_data" exists with other settings, which cannot change \(DriverOpts.size',
        ),
    ],
)
def test_settings_that_cannot_change_are_refused_with_the_difference(
    state: State, changed: Any, text: str
) -> None:
    applied(state, SHOP)
    before = dict(state.services)
    with pytest.raises(Conflict, match=text):
        applied(state, changed)
    assert dict(state.services) == before


def test_a_port_of_another_stack_is_refused_with_its_name(state: State) -> None:
    applied(state, SHOP)
    other = stack("blog", service("blog", "web", port=8080))
    text = r'service "blog_web": port 8080/tcp is published by service "shop_web" of stack "shop"'
    with pytest.raises(Conflict, match=text):
        applied(state, other)
    assert "blog_default" not in state.network_of_name


def test_a_container_name_of_another_stack_is_refused_with_its_name(state: State) -> None:
    def named_app(name: str) -> Any:
        made = service(name, "web")
        return stack(name, replace(made, labels={**made.labels, CONTAINER_NAME: "app"}))

    applied(state, named_app("shop"))
    assert actions(applied(state, named_app("shop"))) == {}
    text = 'container_name "app" is already that of service "shop_web" of stack "shop"'
    with pytest.raises(Conflict, match=text):
        applied(state, named_app("blog"))


@pytest.mark.parametrize("kind", ["network", "volume", "secret", "service"])
def test_an_object_of_another_stack_is_refused_with_its_name(state: State, kind: str) -> None:
    applied(state, SHOP)
    mine = stack("blog", service("blog", "web"))
    old: dict[str, Any] = {
        "network": {"networks": (replace(network("blog"), name="shop_default"),)},
        "volume": {"volumes": (replace(volume("blog", "x"), name="shop_data"),)},
        "secret": {"secrets": (renamed(),)},
        "service": {"services": (replace(service("blog", "web"), name="shop_web"),)},
    }
    name = {"network": "default", "volume": "data", "secret": "password", "service": "web"}[kind]
    text = f'{kind} "shop_{name}" exists already and belongs to stack "shop"'
    with pytest.raises(Conflict, match=text):
        applied(state, replace(mine, **old[kind]))


def renamed() -> Any:
    one = payload("blog", "x", b"x")
    return replace(one, spec=replace(one.spec, name="shop_password"))


def test_bad_stacks_are_refused_before_anything_changes(state: State) -> None:
    unlabelled = replace(service("shop", "web"), labels={})
    for spec, text in (
        (stack("a b"), "stack"),
        (stack("shop", unlabelled), "expected com.docker.stack.namespace=shop for service"),
        (stack("shop", *[service("shop", "web")] * 2), "expected each name once"),
        (stack("shop", *[service("shop", f"s{n}") for n in range(501)]), "expected at most 500"),
        (stack("shop", service("shop", "web", secret="none")), 'service "shop_web": secret not'),
        (stack("shop", service("shop", "web", networks=("x",))), 'service "shop_web": .*shop_x'),
    ):
        with pytest.raises((InvalidArgument, NotFound), match=text):
            applied(state, spec)
    assert not state.networks
