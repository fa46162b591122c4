"""Configurations as builders write them, and as nobody should."""

import pytest

from agent.images.base import ImageConfig, InvalidImage
from agent.images.imageconfig import (
    LayerRecord,
    layer_chain,
    parse_configuration,
    parse_images,
    parse_layers,
)
from pyswarm_core.specs import HealthConfig


def test_every_field_of_a_configuration_is_read() -> None:
    said = parse_configuration(
        b"""{"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["C=d"], "User": "1",
        "WorkingDir": "/w", "StopSignal": "SIGQUIT", "Labels": {"x": "y"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/v": {}},
        "Healthcheck": {"Test": ["CMD", "/t"], "Interval": 5, "Retries": 2}},
        "rootfs": {"type": "layers"}, "history": []}"""
    )
    assert (said.architecture, said.os, said.created) == ("amd64", "linux", "2026-01-01T00:00:00Z")
    assert said.run == ImageConfig(
        entrypoint=("/a",),
        cmd=("b",),
        env=("C=d",),
        user="1",
        workdir="/w",
        stop_signal="SIGQUIT",
        labels={"x": "y"},
        exposed_ports=("53/udp", "80/tcp"),
        volumes=("/v",),
        healthcheck=HealthConfig(test=("CMD", "/t"), interval=5, retries=2),
    )


@pytest.mark.parametrize(
    "blob", [b"{}", b'{"config": null}', b'{"config": {"Cmd": null, "Labels": null}}']
)
def test_absent_and_null_mean_nothing_said(blob: bytes) -> None:
    assert parse_configuration(blob).run == ImageConfig()


@pytest.mark.parametrize(
    "blob",
    [b"", b"[]", b"hello", b"\xff\xfe", b'{"config": {"Cmd": "sh"}}', b'{"config": {"Env": [1]}}'],
)
def test_a_wrong_type_is_a_broken_image(blob: bytes) -> None:
    with pytest.raises(InvalidImage, match="configuration is unreadable"):
        parse_configuration(blob)


def test_layers_are_ordered_from_the_top() -> None:
    layers = parse_layers(b'[{"id": "base"}, {"id": "top", "parent": "base", "diff-size": 3}]')
    assert [layer.id for layer in layer_chain("top", layers)] == ["top", "base"]


def test_an_unfinished_or_missing_layer_means_no_chain() -> None:
    unfinished = LayerRecord(id="base", flags={"incomplete": True})
    top = LayerRecord(id="top", parent="base")
    assert layer_chain("top", {"top": top, "base": unfinished}) == ()
    assert layer_chain("top", {"top": top}) == ()


def test_a_layer_that_is_its_own_parent_means_no_chain() -> None:
    assert layer_chain("a", {"a": LayerRecord(id="a", parent="a")}) == ()


def test_an_index_that_is_none_is_reported() -> None:
    with pytest.raises(InvalidImage, match="index is unreadable"):
        parse_images(b"{")


def test_an_empty_storage_has_no_images() -> None:
    assert parse_images(b"") == ()
