"""The file of a node's identity, and joins that must not happen."""

from pathlib import Path

import pytest

from agent.session.identity import Identity, Joining, join
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import NodeDescription
from tests.fixtures.identity import FLEET, another, identity_in
from tests.fixtures.servers import tls_server


def test_an_identity_is_what_was_saved_and_for_root_alone(tmp_path: Path) -> None:
    identity = identity_in(tmp_path, "192.0.2.1:1")
    assert (identity.node_id, identity.cluster_id) == ("n1", FLEET.cluster.id)
    credentials = identity.certificate.credentials
    assert credentials.ca_pem.decode() == FLEET.roots
    assert credentials.cert_pem.decode() == identity.certificate.chain
    identity.learn(("192.0.2.2:1",))
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "identity.new").exists()
    again = Identity.load(tmp_path / "identity.json")
    assert again
    assert again.certificate == identity.certificate


def test_a_host_that_never_joined_has_none(tmp_path: Path) -> None:
    assert Identity.load(tmp_path / "identity.json") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"node_id": "n\xff"}',
        b'{"node_id":"n","cluster_id":"c","token":"PYSWM-1-c-secret","controllers":["a:1"]}',
    ],
)
def test_a_file_that_is_damaged_or_without_certificates_is_named(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="swarm rejoin") as refused:
        Identity.load(path)
    assert str(path) in str(refused.value)
    assert "secret" not in str(refused.value)


def _joining(token: str, address: str) -> Joining:
    description = NodeDescription(hostname="host1", protocol=PROTOCOL)
    return Joining(token, (address,), description, "192.0.2.1")


async def test_a_controller_with_another_ca_gets_no_token_and_nothing_is_saved(
    tmp_path: Path,
) -> None:
    path = tmp_path / "identity.json"
    refused = pytest.raises(PermissionDenied, match="does not have this fleet's CA")
    with tls_server(another()) as address, refused:
        await join(path, _joining(FLEET.token, address))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "token",
    ["", "PYSWM-1-guess", "SWMTKN-1-a-b", FLEET.token[:-1]],
    ids=["empty", "short", "docker", "cut"],
)
async def test_a_token_that_was_not_copied_correctly_is_sent_to_nobody(
    token: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="the token is not valid"):
        await join(tmp_path / "identity.json", _joining(token, "127.0.0.1:9"))
