"""Which image `up` gives a service."""

import pytest
from msgspec.structs import replace

from cli.compose.deploying import images
from cli.compose.images.pulling import found_digest
from cli.compose.members import Member
from pyswarm_core.clock import HOUR, MINUTE, Instant
from pyswarm_core.images.views import InspectedImage
from pyswarm_core.specs import ContainerSpec, ServiceSpec, TaskSpec
from tests.unit.cli.compose import made

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def spec(image: str, **labels: str) -> ServiceSpec:
    template = TaskSpec(container_spec=ContainerSpec(image=image))
    named = {key.replace("__", "."): value for key, value in labels.items()}
    return ServiceSpec(name="shop_web", task_template=template, labels=named)


def deployed(image: str, **labels: str) -> dict[str, Member]:
    member = made.member("web")
    service = replace(member.service, spec=spec(image, **labels))
    return {"shop_web": Member("web", replace(member.summary, service=service))}


def chosen(
    wanted: ServiceSpec,
    fleet: dict[str, Member],
    built: str = "",
    fresh: tuple[str, ...] = (),
) -> tuple[str | None, str]:
    digests = {"shop_web": built} if built else {}
    found = images.choice({"shop_web": wanted}, fleet, digests, fresh)
    return found.images.get("shop_web"), found.resolve


def test_a_service_keeps_its_digest() -> None:
    assert chosen(spec("web:1"), deployed(f"web:1@{OLD}")) == (f"web:1@{OLD}", "changed")


def test_a_new_service_and_another_image_are_looked_up() -> None:
    assert chosen(spec("web:1"), {}) == (None, "changed")
    assert chosen(spec("web:2"), deployed(f"web:1@{OLD}")) == (None, "changed")


def test_pull_always_looks_up_the_tag() -> None:
    found = chosen(spec("web:1"), deployed(f"web:1@{OLD}"), fresh=("shop_web",))
    assert found == (None, "always")


def test_a_build_has_the_digest_that_the_registry_has_now() -> None:
    found = chosen(spec("shop-web"), deployed(f"shop-web:latest@{OLD}"), built=NEW)
    assert found == (f"shop-web:latest@{NEW}", "changed")


def test_a_digest_that_a_pull_found_replaces_the_one_that_it_was_found_for() -> None:
    note = images.pulled_note(OLD, NEW)
    fleet = deployed(f"web:1@{OLD}", com__docker__compose__image=note)
    assert chosen(spec("web:1"), fleet) == (f"web:1@{NEW}", "changed")
    later = deployed(f"web:1@sha256:{'c' * 64}", com__docker__compose__image=note)
    assert chosen(spec("web:1"), later) == (f"web:1@sha256:{'c' * 64}", "changed")
    assert chosen(spec("web:2"), fleet) == (None, "changed")


@pytest.mark.parametrize(
    ("policy", "age", "due"),
    [
        ("always", 0, True),
        ("missing", 10**18, False),
        ("never", 10**18, False),
        ("daily", 23 * HOUR, False),
        ("daily", 25 * HOUR, True),
        ("weekly", 25 * HOUR, False),
        ("weekly", 8 * 24 * HOUR, True),
        ("every_30m", 29 * MINUTE, False),
        ("every_30m", 31 * MINUTE, True),
        ("every_2d", 47 * HOUR, False),
        ("every_2d", 49 * HOUR, True),
    ],
)
def test_a_pull_policy_is_due(policy: str, age: int, due: bool) -> None:
    (member,) = deployed("web:1").values()
    assert images.is_due(policy, member, Instant(member.service.updated_at + age)) == due


def test_a_new_service_has_no_old_digest() -> None:
    assert not images.is_due("daily", None, Instant(10**18))


def test_an_image_that_has_the_services_digest_too_is_not_new() -> None:
    name = "docker.io/library/web"
    same = InspectedImage("id", NEW, (f"{name}:1", f"{name}@{OLD}"))
    assert found_digest(same, OLD) == OLD
    other = InspectedImage("id", NEW, (f"{name}:1", f"{name}@{NEW}"))
    assert found_digest(other, OLD) == NEW
