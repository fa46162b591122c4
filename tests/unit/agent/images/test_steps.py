"""Images of a build's steps are left out of lists."""

from agent.images.base import Image, ImageConfig
from agent.images.building.steps import steps_of


def image(name: str, *layers: str, tags: tuple[str, ...] = ()) -> Image:
    """Layers, the uppermost first."""
    return Image(id=name, digest="", names=tags, layers=layers, config=ImageConfig())


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
