"""Which images a name means, what goes with a name, and what services need."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.images import choosing, targets
from controller.api.images.choosing import deletion, meant, users_of, wanted
from controller.api.images.users import Users, image_users
from controller.brain.slices import finish
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.images.views import Image, ImageDeletion
from pyswarm_core.objects import PreviousSpec, Service
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures import build

HUB = "docker.io/library"
DIGEST, OTHER = "sha256:" + "d" * 64, "sha256:" + "e" * 64
ONE, TWO = "a1" * 32, "b2" * 32


def image(image_id: str, *names: str, digest: str = DIGEST, **fields: Any) -> Image:
    return Image(image_id, digest, names, 7, fields.pop("created", ""), **fields)


WEB = image(ONE, f"{HUB}/web:1", f"{HUB}/web@{DIGEST}")


@pytest.mark.parametrize(
    "text", ["web:1", f"web@{DIGEST}", "docker.io/library/web:1", "a1a1", f"sha256:{ONE}", ONE]
)
def test_a_name_a_digest_and_the_beginning_of_an_id_mean_an_image(text: str) -> None:
    assert meant([WEB, image(TWO, f"{HUB}/db:1", digest=OTHER)], wanted(text)) == {ONE}


def test_a_name_comes_before_an_id() -> None:
    named = image(TWO, f"{HUB}/a1a1:latest", digest=OTHER)
    assert meant([WEB, named], wanted("a1a1")) == {TWO}


def test_what_no_node_has_and_what_is_ambiguous() -> None:
    with pytest.raises(NotFound, match='No such image: "web:2"'):
        meant([WEB], wanted("web:2"))
    with pytest.raises(Conflict, match="ambiguous: it begins a1a1a1a1a1a1, a1a1a1a1a1a2"):
        meant([WEB, image("a1a1a1a1a1a2", f"{HUB}/db:1", digest=OTHER)], wanted("a1a1"))
    with pytest.raises(InvalidArgument):
        wanted("a b")
    with pytest.raises(InvalidArgument):
        wanted("web:1", "sha256:5")


def test_a_digest_that_is_known_for_a_name_finds_nodes_that_pulled_by_it() -> None:
    pinned = image(ONE, f"{HUB}/web@{DIGEST}", digest=OTHER)
    assert meant([pinned], wanted("web:1", DIGEST)) == {ONE}
    assert deletion(pinned, wanted("web:1", DIGEST)) == ImageDeletion(ONE)


@pytest.mark.parametrize(
    ("names", "text", "gone"),
    [
        (("web:1",), "web:1", ()),
        (("web:1", f"web@{DIGEST}"), "web:1", ()),
        (("web:1", "web:2"), "web:1", ("web:1",)),
        (("web:1", "web:2", f"web@{DIGEST}"), "web:1", ("web:1",)),
        (("web:1", f"web@{DIGEST}", f"api@{DIGEST}"), "web:1", ("web:1", f"web@{DIGEST}")),
        (("web:1", f"web@{DIGEST}"), f"web@{DIGEST}", (f"web@{DIGEST}",)),
        ((f"web@{DIGEST}",), f"web@{DIGEST}", ()),
        (("web:1", "web:2"), "a1a1", ()),
        ((), "a1a1", ()),
    ],
)
def test_digests_go_with_the_last_tag_of_their_repository(
    names: tuple[str, ...], text: str, gone: tuple[str, ...]
) -> None:
    found = deletion(image(ONE, *(f"{HUB}/{name}" for name in names)), wanted(text))
    assert found == ImageDeletion(ONE, tuple(f"{HUB}/{name}" for name in gone))


def test_of_an_image_with_other_tags_a_known_digest_removes_nothing() -> None:
    assert deletion(image(ONE, f"{HUB}/web:2"), wanted("web:1", DIGEST)) is None


def test_the_digest_of_a_name_means_no_image_of_another_repository() -> None:
    pinned = image(ONE, f"{HUB}/web@{DIGEST}")
    with pytest.raises(NotFound):
        meant([pinned], wanted("other:1", DIGEST))
    assert meant([pinned], wanted("web:2", DIGEST)) == {ONE}
    assert meant([image(ONE)], wanted("other:1", DIGEST)) == {ONE}


def users(*services: Service) -> Users:
    return finish(image_users(build.state(services=services)))


def service(name: str, text: str, *earlier: str) -> Service:
    made = build.service(name, spec=build.template(text))
    previous = tuple(
        PreviousSpec(version=number, spec=build.service(name, spec=build.template(one)).spec)
        for number, one in enumerate(earlier)
    )
    return replace(made, previous_specs=previous)


def test_a_service_needs_its_image_that_of_its_rollback_and_those_it_mounts() -> None:
    web = service("web", f"web:2@{OTHER}", f"web:1@{DIGEST}", "web:0")
    mount = Mount(type=MountType.IMAGE, source="tools:1", target="/tools")
    container = replace(web.spec.task_template.container_spec, mounts=(mount,))
    template = replace(web.spec.task_template, container_spec=container)
    web = replace(web, spec=replace(web.spec, task_template=template))
    found = users(web, build.container("db", spec=build.template("db")))
    said = {key: [user.sentence for user in some] for key, some in found.items()}
    assert said == {
        f"{HUB}/web@{OTHER}": ["service web"],
        f"{HUB}/tools:1": ["service web"],
        f"{HUB}/web@{DIGEST}": ["service web, whose rollback returns to it"],
        f"{HUB}/db:latest": ["container db"],
    }
    assert [one.title for one in users_of(WEB, found)] == ["web (rollback)"]


def test_the_image_of_a_list_is_found_by_any_of_its_digests() -> None:
    found = users(service("web", f"web:1@{DIGEST}"))
    assert users_of(image(ONE, f"{HUB}/web:1"), found)
    assert users_of(image(ONE, f"{HUB}/web@{DIGEST}", digest=OTHER), found)
    assert not users_of(image(ONE, f"{HUB}/web:1", digest=OTHER), found)
    assert not users_of(image(ONE, f"{HUB}/other:1"), found)


def test_templates_name_no_image() -> None:
    assert users(service("web", "web:{{.Task.Slot}}")) == {}


@pytest.mark.parametrize(
    ("images", "text", "why"),
    [
        ([WEB], "web:1", "service web"),
        ([WEB], "a1a1", "service web"),
        ([image(ONE, f"{HUB}/web:1", f"{HUB}/web:2")], "a1a1", "service web"),
        ([], "web:1", "service web"),
    ],
)
def test_an_image_that_a_service_needs_stays_unless_it_is_forced(
    images: list[Image], text: str, why: str
) -> None:
    found = users(service("web", f"web:1@{DIGEST}"))
    with pytest.raises(Conflict, match=f"image {text} is needed by {why}: remove or update"):
        choosing.require_removable(images, wanted(text), found, force=False)
    choosing.require_removable(images, wanted(text), found, force=True)


@pytest.mark.parametrize("text", [f"web:1@{DIGEST}", "web:1"])
def test_one_of_several_tags_goes_unless_a_service_names_just_that(text: str) -> None:
    both = image(ONE, f"{HUB}/web:1", f"{HUB}/web:2")
    found = users(service("web", text))
    choosing.require_removable([both], wanted("web:2"), found, force=False)
    with pytest.raises(Conflict, match="service web"):
        choosing.require_removable([both], wanted("web:1"), found, force=False)


def test_an_id_with_names_in_several_repositories_needs_force() -> None:
    both = image(ONE, f"{HUB}/web:1", f"{HUB}/api:1")
    with pytest.raises(Conflict, match="has names in several repositories"):
        choosing.require_removable([both], wanted("a1a1"), {}, force=False)
    choosing.require_removable([both], wanted("a1a1"), {}, force=True)


def test_images_are_filtered_as_in_docker() -> None:
    old = image(ONE, f"{HUB}/web:1", created="2026-01-01T00:00:00Z", labels={"a": "1", "b": "2"})
    new = image(TWO, f"{HUB}/web@{OTHER}", created="2026-02-01T00:00:00Z")
    images = [old, new]

    def chosen(*texts: str) -> list[Image]:
        filters = targets.parse_image_filters(texts)
        passing = targets.relative(images, filters)
        return [one for one in images if targets.passes(one, filters) and passing(one)]

    assert chosen("label=a") == chosen("label=a=1", "label=b") == [old]
    assert chosen("label=a=2") == []
    assert chosen("dangling=true") == [new]
    assert chosen("dangling=false") == [old]
    assert chosen("before=b2b2") == chosen("until=2026-01-15T00:00:00Z") == [old]
    assert chosen("since=web:1") == chosen("since=2026-01-01T00:00:00.000000000Z") == [new]
    assert chosen("before=2026-01-01T00:00:00Z") == []
    assert chosen("reference=web") == [old]
    assert chosen("id=b2") == [new]
    with pytest.raises(NotFound):
        chosen("since=db:1")
    with pytest.raises(InvalidArgument, match="expected one of before, dangling, id, label"):
        chosen("colour=red")
    with pytest.raises(InvalidArgument):
        chosen("until=soon")
