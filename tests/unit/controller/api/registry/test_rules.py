"""What may be pushed to the fleet's registry and removed from it."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from controller.api.registry.rules import require_allowed
from controller.brain.slices import finish
from controller.identity.caller import ROOT, Caller, CallerKind
from controller.registry.actions import action_of
from controller.registry.storage import RegistryStorage
from pyswarm_core.decision import Writes
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import Conflict, PermissionDenied, PyswarmError
from pyswarm_core.identity.users import STACK_LABEL, Role
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import PreviousSpec, Service
from pyswarm_core.stacks.stack import PreviousStack, Stack, StackContent, StackId
from pyswarm_core.state import State
from tests.fixtures import build

DIGEST, OTHER = "sha256:" + "d" * 64, "sha256:" + "e" * 64
CI = Caller(CallerKind.USER, name="ci", role=Role.OPERATOR, stacks=("web",))


def service(image: str, *earlier: str, stack: str = "shop") -> Service:
    made = build.service("shop", spec=build.template(image))
    spec = replace(made.spec, labels={STACK_LABEL: stack})
    previous = tuple(
        PreviousSpec(version=1, spec=build.service("shop", spec=build.template(one)).spec)
        for one in earlier
    )
    return replace(made, spec=spec, previous_specs=previous)


def require(
    caller: Caller,
    method: str,
    which: str,
    used: Service,
    *going: str,
    also: tuple[Service, ...] = (),
) -> None:
    ask(caller, method, f"manifests/{which}", used, *also, going=going)


def ask(
    caller: Caller, method: str, path: str, *used: Service, going: tuple[str, ...] = ()
) -> None:
    action = action_of(method, f"/v2/docker.io/library/shop/{path}")
    assert action is not None
    services = [replace(one, id=ServiceId(str(number))) for number, one in enumerate(used)]
    state = build.state(services=services)
    finish(require_allowed(caller, action, state, tuple(map(parse_reference, going))))


@pytest.mark.parametrize(
    ("method", "which", "used", "going"),
    [
        ("PUT", "1", service("shop:1"), ()),
        ("PUT", "1", service(f"shop:1@{DIGEST}"), ()),
        ("PUT", "1", service("shop:2", "shop:1"), ()),
        ("DELETE", "1", service(f"shop:1@{DIGEST}"), ()),
        ("DELETE", OTHER, service(f"shop:1@{DIGEST}"), ("shop:1",)),
    ],
)
def test_names_of_another_stack_are_not_moved(
    method: str, which: str, used: Service, going: tuple[str, ...]
) -> None:
    with pytest.raises(PermissionDenied, match="a service of another stack uses that name"):
        require(CI, method, which, used, *going)
    own = replace(used, spec=replace(used.spec, labels={STACK_LABEL: "web"}))
    try:
        require(CI, method, which, own, *going)
    except PyswarmError as error:
        assert isinstance(error, Conflict)  # noqa: PT017  # it is needed, which is another reason


def test_other_names_are_free() -> None:
    used = service(f"shop:1@{DIGEST}", "shop:0")
    own = service("shop:3", stack="web")
    require(CI, "PUT", "2", used, also=(own,))
    require(CI, "PUT", OTHER, used, also=(own,))
    require(CI, "DELETE", OTHER, used, "shop:2", also=(own,))
    require(ROOT, "PUT", "1", used)
    require(ROOT, "DELETE", "1", used)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "manifests/2"),
        ("PUT", f"manifests/{OTHER}"),
        ("DELETE", "manifests/2"),
        ("POST", "blobs/uploads/"),
    ],
)
def test_a_repository_of_other_stacks_alone_is_closed(method: str, path: str) -> None:
    used = service("shop:1")
    reason = (
        'may not (push|remove) images of "shop": services of other stacks use that repository, and'
        " none of stack web does"
    )
    with pytest.raises(PermissionDenied, match=reason):
        ask(CI, method, path, used)
    ask(CI, method, path, used, service("shop:4", stack="web"))
    ask(CI, method, path, service("other:1"))
    ask(ROOT, method, path, used)


def of_version(image: str) -> State:
    """A stack whose earlier version has a service with the image, which was removed since."""
    spec = service(image).spec
    former = PreviousStack(version=1, spec=StackContent(name="shop", services=(spec,)))
    content = StackContent(name="shop")
    state = build.state()
    stack = Stack(id=StackId("s1"), spec=content, spec_version=2, previous_specs=(former,))
    state.apply(Writes(objects=(stack,)))
    return state


def test_what_a_stack_may_return_to_stays() -> None:
    action = action_of("DELETE", f"/v2/docker.io/library/shop/manifests/{DIGEST}")
    assert action is not None
    state = of_version(f"shop:1@{DIGEST}")
    with pytest.raises(Conflict, match='cannot be removed: stack "shop" may roll back to it'):
        finish(require_allowed(ROOT, action, state))
    finish(require_allowed(ROOT, action, of_version(f"shop:1@{OTHER}")))


@pytest.mark.parametrize(("method", "which"), [("PUT", "1"), ("DELETE", "1"), ("PUT", "new")])
def test_a_version_of_another_stack_keeps_its_names(method: str, which: str) -> None:
    action = action_of(method, f"/v2/docker.io/library/shop/manifests/{which}")
    assert action is not None
    state = of_version(f"shop:1@{DIGEST}")
    with pytest.raises(PermissionDenied, match="service"):
        finish(require_allowed(CI, action, state))
    finish(require_allowed(replace(CI, stacks=("shop",)), action, state))


def test_reading_is_open() -> None:
    ask(CI, "GET", "manifests/1", service("shop:1"))


@pytest.mark.parametrize(
    ("used", "going"),
    [
        (service(f"shop:1@{DIGEST}"), (f"shop@{DIGEST}",)),
        (service("shop:1"), ("shop:1",)),
        (service("shop:2", "shop:1"), ("shop:1",)),
    ],
)
def test_a_digest_is_not_removed_with_what_a_service_needs(
    used: Service, going: tuple[str, ...]
) -> None:
    with pytest.raises(Conflict, match=r'cannot be removed: service "shop"'):
        require(ROOT, "DELETE", OTHER, used, *going)


def test_what_goes_with_a_digest(tmp_path: Path) -> None:
    one, whole, free = ("sha256:" + letter * 64 for letter in "abc")
    base = tmp_path / "docker" / "registry" / "v2"
    folder = base / "repositories" / "docker.io" / "library" / "shop" / "_manifests"

    def link(file: Path, digest: str) -> None:
        file.parent.mkdir(parents=True)
        file.write_text(digest)

    for digest, parts in ((one, ()), (whole, (one,)), (free, ())):
        digits = digest.removeprefix("sha256:")
        link(folder / "revisions" / "sha256" / digits / "link", digest)
        blob = base / "blobs" / "sha256" / digits[:2] / digits / "data"
        blob.parent.mkdir(parents=True)
        blob.write_bytes(msgspec.json.encode({"manifests": [{"digest": part} for part in parts]}))
    for tag, digest in (("1", one), ("2", whole), ("3", free)):
        link(folder / "tags" / tag / "current" / "link", digest)
    found = RegistryStorage(tmp_path).taken_along("docker.io/library/shop", one)
    assert found == (["1", "2"], [whole])


def test_the_image_of_a_tag(tmp_path: Path) -> None:
    base = tmp_path / "docker" / "registry" / "v2"
    tags = base / "repositories" / "docker.io" / "library" / "shop" / "_manifests" / "tags"
    manifest = {"config": {"digest": OTHER}}
    for tag, digest, content in (
        ("1", DIGEST, manifest),
        ("list", "sha256:" + "a" * 64, {"manifests": []}),
        ("gone", "sha256:" + "b" * 64, None),
    ):
        digits = digest.removeprefix("sha256:")
        link = tags / tag / "current" / "link"
        link.parent.mkdir(parents=True)
        link.write_text(digest)
        if content is not None:
            blob = base / "blobs" / "sha256" / digits[:2] / digits / "data"
            blob.parent.mkdir(parents=True)
            blob.write_bytes(msgspec.json.encode(content))
    storage = RegistryStorage(tmp_path)
    found = [storage.config_of("docker.io/library/shop", tag) for tag in ("1", "list", "gone", "2")]
    assert found == [OTHER, "", "", ""]
