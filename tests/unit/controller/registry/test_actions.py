"""What requests to the registry do."""

import pytest

from controller.registry.actions import Action, Kind, action_of, require_named
from pyswarm_core.errors import InvalidArgument

WEB = "docker.io/library/web"
HEX = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("method", "target", "action"),
    [
        ("GET", "/v2/", Action(Kind.PING, False, method="GET")),
        ("GET", "/v2/_catalog?n=100&last=a%2Fb", Action(Kind.CATALOG, False, method="GET")),
        ("GET", f"/v2/{WEB}/tags/list", Action(Kind.TAGS, False, WEB, method="GET")),
        ("HEAD", f"/v2/{WEB}/manifests/1", Action(Kind.MANIFEST, False, WEB, "1", "HEAD")),
        ("PUT", f"/v2/{WEB}/manifests/1", Action(Kind.MANIFEST, True, WEB, "1", "PUT")),
        ("DELETE", f"/v2/{WEB}/manifests/{HEX}", Action(Kind.MANIFEST, True, WEB, HEX, "DELETE")),
        ("POST", f"/v2/{WEB}/blobs/uploads/", Action(Kind.UPLOAD, True, WEB, "", "POST")),
        (
            "PATCH",
            f"/v2/{WEB}/blobs/uploads/0a-1?_state=x-_%3D",
            Action(Kind.UPLOAD, True, WEB, "0a-1", "PATCH"),
        ),
        ("GET", f"/v2/{WEB}/blobs/{HEX}", Action(Kind.BLOB, False, WEB, HEX, "GET")),
    ],
)
def test_the_requests_of_the_protocol(method: str, target: str, action: Action) -> None:
    assert action_of(method, target) == action


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", f"/v2/{WEB}/blobs/{HEX}"),
        ("PUT", f"/v2/{WEB}/tags/list"),
        ("POST", f"/v2/{WEB}/manifests/1"),
        ("GET", "/debug/vars"),
        ("GET", "/v2/../debug"),
        ("GET", "/v2/A/manifests/1"),
        ("PUT", f"/v2/{WEB}/manifests/%31"),
        ("PUT", f"/v2/{WEB}//manifests/1"),
        ("PUT", f"/v2/{WEB}/manifests/1/"),
        ("OPTIONS", "/v2/"),
        ("GET", "/v2/?a=b#c"),
        ("GET", "/v1/search"),
    ],
)
def test_every_other_request_is_refused(method: str, target: str) -> None:
    assert action_of(method, target) is None


def test_an_upload_is_never_a_read() -> None:
    action = action_of("GET", f"/v2/{WEB}/blobs/uploads/1")
    assert action is not None
    assert action.writes


def test_only_images_names_are_written() -> None:
    require_named(Action(Kind.MANIFEST, True, "registry__5000/web", "1", "PUT"))
    with pytest.raises(InvalidArgument, match="expected REGISTRY"):
        require_named(Action(Kind.MANIFEST, True, "web", "1", "PUT"))


def test_the_image_of_a_push() -> None:
    assert Action(Kind.MANIFEST, True, WEB, "1", "PUT").reference.familiar == "web:1"
    pinned = Action(Kind.MANIFEST, True, "registry__5000/web", HEX, "PUT").reference
    assert str(pinned) == f"registry:5000/web@{HEX}"
