"""`build` of a service as the build of an image."""

import pytest

from cli.compose.images.building import Asked, notices, recipe_of
from compose.mapping.mapped import Build
from pyswarm_core.errors import InvalidArgument

BUILD = Build(image="shop-app", context="/src/app")


def made(**more: object) -> Build:
    return Build(image="shop-app", context="/src/app", **more)  # type: ignore[arg-type]


def test_every_key_reaches_the_build() -> None:
    build = made(
        dockerfile="docker/File",
        args={"A": "1"},
        target="prod",
        cache_from=("cache/app",),
        labels={"a": "b"},
        network="host",
        platforms=("linux/arm64",),
        tags=("registry.example.com/app:2",),
        extra_hosts=("db=10.0.0.1",),
    )
    asked = Asked(build_args=("B=2",), pull=True)
    found = recipe_of("app", build, asked)
    assert (found.context, found.file) == ("/src/app", "/src/app/docker/File")
    assert [one.familiar for one in found.tags] == [
        "shop-app:latest",
        "registry.example.com/app:2",
    ]
    assert (found.build_args, found.labels) == (("A=1", "B=2"), ("a=b",))
    assert (found.target, found.network, found.platform) == ("prod", "host", "linux/arm64")
    assert found.add_hosts == ("db:10.0.0.1",)
    assert found.cache_from.endswith("cache/app")
    assert (found.pull, found.no_cache) == (True, False)


def test_an_inline_dockerfile_takes_the_place_of_a_file() -> None:
    assert recipe_of("app", made(dockerfile_inline="FROM web:1"), Asked()).file == ""


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"platforms": ("linux/amd64", "linux/arm64")}, "services.app.build.platforms"),
        ({"network": "shop_default"}, "services.app.build.network"),
        ({"tags": ("Not A Name",)}, "services.app.build: --tag"),
    ],
)
def test_what_the_builder_cannot_do_names_the_key(more: dict[str, object], error: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        recipe_of("app", made(**more), Asked())
    assert str(raised.value).startswith(error)


def test_what_has_no_effect_is_named() -> None:
    assert list(notices("app", BUILD)) == []
    found = list(notices("app", made(shm_size=1, privileged=True, cache_from=("a", "b"))))
    assert [one.partition(":")[0] for one in found] == [
        "services.app.build.privileged",
        "services.app.build.shm_size",
        "services.app.build.cache_from",
    ]
