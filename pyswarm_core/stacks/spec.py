"""A stack as its user submitted it. PURE values."""

from pyswarm_core.model import Model
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.specs import NetworkSpec, ServiceSpec
from pyswarm_core.volumes.volume import VolumeSpec


class StackPayload(Model, frozen=True, kw_only=True):
    """A secret or config with its data."""

    spec: PayloadSpec
    data: bytes = b""


class StackSpec(Model, frozen=True, kw_only=True):
    """Everything that a stack consists of, by the full names (`shop_db`). What a service uses and
    the stack does not list belongs to others (`external: true`).
    """

    name: str
    services: tuple[ServiceSpec, ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    secrets: tuple[StackPayload, ...] = ()
    configs: tuple[StackPayload, ...] = ()
