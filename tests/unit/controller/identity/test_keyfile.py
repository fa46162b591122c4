"""The key file: created once and completely, readable for its owner alone."""

from base64 import b64encode
from pathlib import Path

import pytest

from controller.identity.keyfile import create_key, load_keys
from controller.identity.keyring import Keyring
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.objects import Cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "encryption.key"


def test_a_new_key_is_loaded_again(path: Path) -> None:
    key = create_key(path)
    assert load_keys(path) == (key,)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["encryption.key"]


def test_an_existing_key_is_never_replaced(path: Path) -> None:
    key = create_key(path)
    with pytest.raises(InvalidArgument, match="exists: a new key would not open what is stored"):
        create_key(path)
    assert load_keys(path) == (key,)


def test_what_a_crash_left_is_no_obstacle(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("encryption.key.new").write_text("half")
    assert (create_key(path),) == load_keys(path)


def test_a_key_of_openssl_is_accepted(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(b64encode(bytes(32)).decode() + "\n")
    path.chmod(0o600)
    assert load_keys(path) == (bytes(32),)


@pytest.mark.parametrize(
    "content", [b"", b"c2hvcnQ=", b"no base 64!", b"\xff\xfe", b"a b", b"a b c"]
)
def test_another_file_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidArgument, match=r"--encryption-key: .*encryption\.key"):
        load_keys(path)


def test_a_file_for_everybody_is_refused_with_the_command_that_mends_it(path: Path) -> None:
    create_key(path)
    path.chmod(0o644)
    with pytest.raises(InvalidArgument, match=rf"expected mode 0600 \(chmod 600 {path}\)"):
        load_keys(path)
    path.chmod(0o440)  # a Secret of Kubernetes, with fsGroup
    load_keys(path)


def test_a_missing_one_is_refused_with_what_to_copy_from_where(path: Path) -> None:
    keyring = Keyring(path)
    assert keyring.is_empty
    with pytest.raises(InvalidArgument) as refused:
        keyring.envelope(is_new=False)
    assert str(refused.value) == (
        f"--encryption-key: the cluster in this store exists, and its encryption key is not in"
        f" {path}: copy the file encryption.key from the state directory of a controller of the"
        f" cluster to {path} (mode 0600), or name it with --encryption-key"
    )
    assert not path.exists()


def test_a_copied_file_is_found_without_a_restart(path: Path, tmp_path: Path) -> None:
    keyring = Keyring(path)
    stored = (
        Keyring(tmp_path / "other").envelope(is_new=True).encode(Cluster("c", worker_token="t"))
    )
    path.parent.mkdir()
    (tmp_path / "other").rename(path)
    assert not keyring.is_empty
    assert keyring.envelope(is_new=False).decode(CLUSTER, stored).worker_token == "t"
