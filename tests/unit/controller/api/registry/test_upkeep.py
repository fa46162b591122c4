"""What of the fleet's registry the services need."""

from msgspec.structs import replace

from controller.api.registry.upkeep import needed_images
from controller.brain.slices import finish
from pyswarm_core.objects import PreviousSpec
from tests.fixtures import build

DIGEST = "sha256:" + "d" * 64


def test_a_service_needs_digests_and_tags_where_it_has_none() -> None:
    made = build.service("shop", spec=build.template(f"shop:2@{DIGEST}"))
    earlier = build.service("shop", spec=build.template("r.test:5000/shop:1")).spec
    service = replace(made, previous_specs=(PreviousSpec(version=1, spec=earlier),))
    needed = finish(needed_images(build.state(services=[service])))
    assert needed == {DIGEST, "r.test__5000/shop:1"}
