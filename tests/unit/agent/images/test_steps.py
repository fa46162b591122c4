"""Images of a build's steps are left out of lists."""

from agent.images.base import Image, ImageConfig
from agent.images.building.steps import parents_of, steps_of


def image(name: str, *layers: str, tags: tuple[str, ...] = (), parent: str = "") -> Image:
    """Layers, the uppermost first."""
    run = ImageConfig()
    return Image(id=name, digest="", names=tags, layers=layers, config=run, parent=parent)


def test_what_lies_below_another_image_is_a_step() -> None:
    images = (
        image("copy", "a"),
        image("run", "b", "a"),
        image("env", "b", "a"),
        image("app", "c", "b", "a", tags=("app:1",)),
        image("cmd", "c", "b", "a"),
    )
    assert steps_of(images) == {"copy", "run", "env", "cmd"}


def test_an_image_with_a_name_or_with_layers_of_its_own_is_none() -> None:
    images = (
        image("base", "a", tags=("base:1",)),
        image("former", "x", "a"),
        image("app", "b", "a", tags=("app:1",)),
        image("empty"),
    )
    assert steps_of(images) == set()


def test_an_image_without_layers_is_a_step_if_another_was_made_from_it() -> None:
    images = (
        image("arg"),
        image("env", parent="arg"),
        image("app", "a", parent="env", tags=("app:1",)),
    )
    assert steps_of(images) == {"arg", "env"}


def test_steps_go_with_the_image_up_to_what_others_have() -> None:
    images = (
        image("base", tags=("base:1",)),
        image("copy", parent="base"),
        image("run", parent="copy"),
        image("env", parent="run"),
        image("app", parent="env", tags=("app:1",)),
        image("other", parent="run", tags=("other:1",)),
    )
    assert parents_of("app", images) == ["env"], "run has another child"
    alone = images[:-1]
    assert parents_of("app", alone) == ["env", "run", "copy"], "base has a name"
    assert parents_of("app", alone, in_use={"run"}) == ["env"]
    assert parents_of("none", alone) == []


def test_parents_in_a_circle_end() -> None:
    images = (image("a", parent="b"), image("b", parent="c"), image("c", parent="b"))
    assert parents_of("a", images) == []
    assert parents_of("b", (image("b", parent="c"), image("c", parent="b"))) == ["c"]
