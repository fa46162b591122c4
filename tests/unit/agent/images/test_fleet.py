"""The fleet's registries as pulls ask them."""

from pathlib import Path

from agent.images.base import RegistryUnavailable
from agent.images.fleet import FleetRegistries
from pyswarm_core.docker.reference import parse_reference


async def test_without_roots_that_can_be_read_a_registry_is_passed_over(tmp_path: Path) -> None:
    """Nothing is sent to it, and the image is pulled from elsewhere."""
    found = FleetRegistries(tmp_path)
    found.changed(("127.0.0.1:1",), "password", "no certificate")
    places, passed = await found.having(parse_reference("web"))
    assert not places
    ((place, error),) = passed
    assert place.registry == "127.0.0.1:1"
    assert isinstance(error, RegistryUnavailable)
    assert str(error) == "this node has no root certificate for the fleet's registry 127.0.0.1:1"
