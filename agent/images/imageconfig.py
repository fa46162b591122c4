"""Parses the configuration of an image (OCI or Docker) and containers-storage's index. PURE.

Bytes in, values out. The bytes are of whoever built the image: a wrong type anywhere is an
InvalidImage, never a crash; null and absent mean the same.
"""

from typing import Any, TypeVar

import msgspec

from agent.images.base import ImageConfig, InvalidImage
from pyswarm_core.specs import HealthConfig


class LayerRecord(msgspec.Struct, frozen=True, rename="kebab"):
    """One layer of the index. `flags` marks incomplete layers."""

    id: str
    parent: str = ""
    diff_size: int = 0
    flags: dict[str, Any] = {}


class ImageRecord(msgspec.Struct, frozen=True, rename="kebab"):
    """One image of the index, with or without names."""

    id: str
    digest: str = ""
    names: tuple[str, ...] | None = None
    layer: str = ""


class _Health(msgspec.Struct, rename="pascal"):
    test: tuple[str, ...] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class _Run(msgspec.Struct, rename="pascal"):
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    stop_signal: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    healthcheck: _Health | None = None


class Configuration(msgspec.Struct):
    """The configuration blob: the platform, and the run configuration (`run`)."""

    created: str | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    parent: str | None = None
    config: _Run | None = None

    @property
    def run(self) -> ImageConfig:
        """The run configuration of containers made from the image."""
        run = self.config or _Run()
        return ImageConfig(
            entrypoint=run.entrypoint or (),
            cmd=run.cmd or (),
            env=run.env or (),
            user=run.user or "",
            workdir=run.working_dir or "",
            stop_signal=run.stop_signal or "",
            labels=run.labels or {},
            exposed_ports=tuple(sorted(run.exposed_ports or {})),
            volumes=tuple(sorted(run.volumes or {})),
            healthcheck=_health(run.healthcheck),
        )


_T = TypeVar("_T")
_configuration = msgspec.json.Decoder(Configuration)
_images = msgspec.json.Decoder(tuple[ImageRecord, ...])
_layers = msgspec.json.Decoder(tuple[LayerRecord, ...])


def parse_configuration(blob: bytes) -> Configuration:
    """Parse a configuration. Raises InvalidImage naming the invalid field."""
    try:
        return _configuration.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidImage(f"broken image: its configuration is unreadable ({error})") from None


def parse_images(blob: bytes) -> tuple[ImageRecord, ...]:
    """Parse the index of images. Raises InvalidImage if it is malformed."""
    return _index(_images, blob)


def parse_layers(blob: bytes) -> dict[str, LayerRecord]:
    """Parse the index of layers, by id. Raises InvalidImage if it is malformed."""
    return {layer.id: layer for layer in _index(_layers, blob)}


def layer_chain(top: str, layers: dict[str, LayerRecord]) -> tuple[LayerRecord, ...]:
    """The layers, the uppermost first; empty if one is missing, incomplete or in a loop."""
    chain: list[LayerRecord] = []
    while top:
        layer = layers.get(top)
        if layer is None or layer.flags.get("incomplete") or len(chain) > len(layers):
            return ()
        chain.append(layer)
        top = layer.parent
    return tuple(chain)


def _index(decoder: "msgspec.json.Decoder[_T]", blob: bytes) -> _T:
    try:
        return decoder.decode(blob or b"[]")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidImage(f"the image storage's index is unreadable ({error})") from None


def _health(health: _Health | None) -> HealthConfig:
    if health is None:
        return HealthConfig()
    return HealthConfig(
        test=health.test or (),
        interval=health.interval or 0,
        timeout=health.timeout or 0,
        start_period=health.start_period or 0,
        start_interval=health.start_interval or 0,
        retries=health.retries or 0,
    )
