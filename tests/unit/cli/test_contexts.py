"""Contexts: which one a command line selects, how they are stored, and the verbs."""

import json
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli import diagnosis
from cli.context import store
from cli.context.model import Context, Given, Material, endpoint, select
from cli.context.selection import given, selected
from cli.swarm.joining import Certificate, Identity
from controller.identity.ca import Unit
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.identity.tokens import UserToken, digest_of, secret_of
from tests.fixtures.identity import another
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

CA = another()
TOKEN = str(UserToken(CA.digest, "0" * 25, secret_of(7)))
PROD = Context(name="prod", host="192.0.2.1:2377", material=Material(token=TOKEN))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty XDG_CONFIG_HOME, and no variable that selects a fleet."""
    for name in ("HOST", "CONTEXT", "TOKEN", "CA"):
        monkeypatch.delenv(f"PYSWARM_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "pyswarm"


def files(tmp_path: Path) -> str:
    """The endpoint of a certificate of CA, whose files are in the folder."""
    credentials = CA.user("alice")
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_bytes(getattr(credentials, f"{name}_pem"))
    paths = ",".join(f"{name}={tmp_path}/{name}.pem" for name in ("ca", "cert", "key"))
    return f"host=192.0.2.1:2377,{paths}"


# ---- selection -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "name", "host"),
    [
        (Given(), "", ""),
        (Given(context_variable="v"), "v", ""),
        (Given(host_variable="h:1"), "", "h:1"),
        (Given(context_flag="f", host_variable="h:1", context_variable="v"), "f", ""),
        (Given(host_flag="f:1", host_variable="h:1", context_variable="v"), "", "f:1"),
    ],
)
def test_flags_precede_variables_and_a_host_precedes_a_context(
    asked: Given, name: str, host: str
) -> None:
    choice = select(asked)
    assert (choice.name, choice.host, choice.warning) == (name, host, "")


def test_two_flags_conflict_and_two_variables_warn() -> None:
    with pytest.raises(InvalidArgument, match="cannot specify both --host and --context"):
        select(Given(host_flag="h:1", context_flag="c"))
    choice = select(Given(host_variable="h:1", context_variable="c"))
    assert choice.host == "h:1"
    assert choice.warning == "PYSWARM_HOST=h:1 overrides PYSWARM_CONTEXT=c: unset one of them"


def test_a_host_uses_the_credentials_of_the_context_that_has_it() -> None:
    store.save(PROD)
    assert selected(Given(host_flag="tcp://192.0.2.1:2377")) == PROD
    assert selected(Given(host_flag="192.0.2.2:2377")).material == Material()
    assert selected(Given()) == Context()


def test_of_several_contexts_with_a_host_it_uses_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.save(PROD)
    store.save(replace(PROD, name="admin", material=Material("A", "B", "C")))
    asked = Given(host_flag=PROD.host)
    with pytest.raises(InvalidArgument, match=r"several contexts .* \(admin, prod\): choose one"):
        selected(asked)
    store.use("prod")
    assert selected(asked) == PROD
    store.use("default")
    monkeypatch.setenv("PYSWARM_TOKEN", TOKEN)
    assert selected(asked) == Context(name="", host=PROD.host, material=Material(token=TOKEN))


def test_a_socket_needs_no_choice() -> None:
    for name in ("a", "b"):
        store.save(Context(name=name, host="unix:///x"))
    assert selected(Given(host_flag="unix:///x")).name == "a"


def test_a_context_that_does_not_exist_is_named() -> None:
    with pytest.raises(NotFound, match='context "gone" does not exist'):
        selected(Given(context_flag="gone"))
    store.save(PROD)
    store.use("prod")
    (store.directory() / "contexts" / "prod" / "meta.json").unlink()
    with pytest.raises(NotFound, match='the current context "prod" does not exist: select one'):
        selected(Given())


def test_a_token_of_the_environment_replaces_the_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them: the CA of the context may be a former one."""
    store.save(replace(PROD, material=Material(ca="CA", cert="C", key="K")))
    monkeypatch.setenv("PYSWARM_TOKEN", TOKEN)
    assert selected(Given(context_flag="prod")).material == Material(token=TOKEN)
    assert selected(Given(host_flag=PROD.host)).material == Material(token=TOKEN)
    monkeypatch.setenv("PYSWARM_HOST", "192.0.2.9:2377")
    assert selected(given(None, None)).material == Material(token=TOKEN)
    with pytest.raises(InvalidArgument, match="is a socket, where it would not count"):
        selected(Given(context_flag="default"))


def test_a_user_without_a_home_directory_has_no_contexts(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", none)
    script.on("ListNodes", [pb.ListNodesReply()])
    ran = pyswarm("node", "ls", "--quiet")
    assert (ran.code, ran.err) == (0, "")


def test_an_address_that_is_not_valid_is_named_by_where_it_came_from(
    pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = 'value "junk" is not valid: expected unix:///PATH or HOST:PORT'
    assert pyswarm("-H", "junk", "ps").err == f"Error: --host: {told}\n"
    monkeypatch.setenv("PYSWARM_HOST", "junk")
    assert pyswarm("ps").err == f"Error: PYSWARM_HOST: {told}\n"


def test_a_ca_of_the_environment_must_be_the_contexts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "root.pem"
    monkeypatch.setenv("PYSWARM_CA", str(path))
    with pytest.raises(InvalidArgument, match="PYSWARM_CA: no such file or directory"):
        selected(Given(host_flag="h:1"))
    path.write_bytes(CA.roots.encode())
    assert selected(Given(host_flag="h:1")).material.ca == CA.roots
    store.save(replace(PROD, material=Material(ca=another().roots, token=TOKEN)))
    with pytest.raises(InvalidArgument, match='another certificate than the CA of context "prod"'):
        selected(Given(context_flag="prod"))
    assert selected(Given(context_flag="default")) == Context()


# ---- the store -----------------------------------------------------------------------------------


def test_a_context_is_read_as_it_was_saved_and_nobody_else_may(home: Path) -> None:
    context = replace(PROD, description="é", material=Material("A\n", "B\n", "C\n", "t"))
    store.save(context)
    assert store.load("prod") == context
    for path in (home, *home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert b"C\n" not in (home / "contexts" / "prod" / "meta.json").read_bytes()


def test_former_credentials_do_not_stay(home: Path) -> None:
    store.save(replace(PROD, material=Material("A", "B", "C")))
    store.save(PROD)
    assert store.load("prod") == PROD
    assert sorted(path.name for path in (home / "contexts/prod").iterdir()) == [
        "credentials.json",
        "meta.json",
    ]
    store.save(replace(PROD, material=Material()))
    assert [path.name for path in (home / "contexts/prod").iterdir()] == ["meta.json"]


def test_a_reader_never_sees_a_key_with_another_certificate(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write is the last one before the process is killed."""
    store.save(replace(PROD, material=Material("A", "B", "C")))
    for allowed in range(3):
        done = 0

        def killed(path: Path, target: Path, limit: int = allowed) -> Path:
            nonlocal done
            if done == limit:
                raise KeyboardInterrupt
            done += 1
            return path.rename(target)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Path, "replace", killed)
            store.save(replace(PROD, material=Material("a", "b", "c")))
        assert store.load("prod").material in (Material("A", "B", "C"), Material("a", "b", "c"))


@pytest.mark.parametrize("content", [b"", b"{", b'{"host": "\xff"}', b"[]"])
def test_a_damaged_context_is_listed_with_its_error(
    home: Path, pyswarm: Pyswarm, content: bytes
) -> None:
    store.activate(PROD)
    (home / "contexts/prod/meta.json").write_bytes(content)
    ran = pyswarm("context", "ls", "--format", "json")
    row = json.loads(ran.out.splitlines()[1])
    assert row["Error"].startswith('context "prod" cannot be read')
    assert pyswarm("service", "ls").err.startswith('Error: context "prod" cannot be read')
    assert pyswarm("context", "rm", "-f", "prod").code == 0
    assert store.names() == ["default"]


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ({"host": "unix:///x/lab.sock", "registry": "r:1", "playground": "lab"}, "lab"),
        ({"host": "192.0.2.1:2377"}, "fleet"),
        ({}, "default"),
    ],
)
def test_the_file_of_earlier_versions_is_converted(
    home: Path, pyswarm: Pyswarm, former: dict[str, str], name: str
) -> None:
    home.mkdir()
    (home / "context.json").write_text(json.dumps(former))
    assert pyswarm("context", "show").out == f"{name}\n"
    context = store.load(name)
    assert context.playground == former.get("playground", "")
    assert not (home / "context.json").exists()


def test_a_damaged_file_of_earlier_versions_counts_as_absent(home: Path) -> None:
    home.mkdir()
    (home / "context.json").write_bytes(b"{")
    assert selected(Given()) == Context()


def test_the_contexts_of_a_fleet_that_ended_are_removed() -> None:
    store.activate(replace(PROD, name="lab", host="unix:///run/lab.sock"))
    store.save(PROD)
    store.leave("unix:///run/lab.sock")
    assert store.names() == ["default", "prod"]
    assert store.current_name() == "default"
    store.leave(Context().host)
    assert store.load("default") == Context()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "a b", "é", "x" * 64, "a\n"])
def test_a_name_is_no_path(name: str, pyswarm: Pyswarm) -> None:
    for line in (("create", "--docker", "host=h:1"), ("use",), ("export",), ("update",)):
        ran = pyswarm("context", *line, "--", name)
        assert (ran.code, ran.out) == (2, ""), line
        assert "CONTEXT: value" in ran.err


# ---- endpoints -----------------------------------------------------------------------------------


def _endpoint(text: str) -> Context:
    made = endpoint("--docker", (text,), {"f": "file\n"}.__getitem__)
    assert made is not None
    return made


def test_an_endpoint_names_host_and_files() -> None:
    assert endpoint("--docker", (), str) is None
    assert _endpoint("host=tcp://h:1,ca=f,cert=f,key=f,skip-tls-verify=false") == Context(
        host="h:1", material=Material("file\n", "file\n", "file\n")
    )
    assert _endpoint("host=h:1,token=PYSWU-1").material.token == "PYSWU-1"
    assert _endpoint("host=h:1,token=f").material.token == "file"
    assert endpoint("--docker", ("host=h:1", "token=f"), str) == Context(
        host="h:1", material=Material(token="f")
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("host=h", "expected unix:///PATH or HOST:PORT"),
        ("token=f", "expected host=unix:///PATH or host=HOST:PORT in it"),
        ("host=h:1,host=h:2", "it is given twice"),
        ("host=h:1,tls=f", "expected KEY=VALUE with a key of host, ca, cert"),
        ("h:1", "expected KEY=VALUE"),
        ("host=h:1,skip-tls-verify=true", "anybody who answers at the address would get"),
    ],
)
def test_an_endpoint_that_is_not_valid_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        _endpoint(text)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("--docker: ")


# ---- verbs ---------------------------------------------------------------------------------------


def test_create_use_show_and_rm(pyswarm: Pyswarm, tmp_path: Path) -> None:
    made = pyswarm("context", "create", "prod", "--description", "d", "--docker", files(tmp_path))
    assert (made.code, made.out) == (0, "prod\n")
    assert made.err == 'Successfully created context "prod"\n'
    assert store.load("prod").material.key == (tmp_path / "key.pem").read_text()
    assert pyswarm("context", "use", "prod").err == 'Current context is now "prod"\n'
    assert pyswarm("context", "show").out == "prod\n"
    assert pyswarm("-c", "default", "context", "show").out == "default\n"
    assert "already exists" in pyswarm("context", "create", "prod", "--from", "default").err
    assert "is in use: set -f flag" in pyswarm("context", "rm", "prod").err
    assert "cannot be removed" in pyswarm("context", "rm", "default").err
    assert pyswarm("context", "rm", "-f", "prod", "gone").out == "prod\ngone\n"
    assert pyswarm("context", "show").out == "default\n"


def test_ls_marks_the_current_context(pyswarm: Pyswarm) -> None:
    store.activate(PROD)
    store.save(replace(PROD, name="bare", material=Material()))
    lines = pyswarm("context", "ls").out.splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["bare", "192.0.2.1:2377", "none"],
        ["prod", "*", "192.0.2.1:2377", "token"],
    ]
    assert pyswarm("context", "ls", "-q").out.split() == ["default", "bare", "prod"]
    form = "{{.Name}} {{.Current}} {{.DockerEndpoint}}"
    assert "prod true 192.0.2.1:2377" in pyswarm("context", "ls", "--format", form).out


def test_a_variable_that_overrides_the_current_context_is_named(
    pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(PROD)
    monkeypatch.setenv("PYSWARM_HOST", "h:1")
    assert "PYSWARM_HOST overrides the current context" in pyswarm("context", "use", "prod").err
    assert "(h:1) overrides the current context" in pyswarm("context", "ls").err
    assert pyswarm("context", "show").out == "default\n"


def test_inspect_shows_no_secret(pyswarm: Pyswarm, tmp_path: Path) -> None:
    pyswarm("context", "create", "prod", "--pyswarm", files(tmp_path))
    found = json.loads(pyswarm("context", "inspect", "prod").out)[0]
    assert found["Endpoints"]["docker"] == {"Host": "192.0.2.1:2377", "SkipTLSVerify": False}
    assert found["TLSMaterial"] == {"docker": ["ca.pem", "cert.pem", "key.pem"]}
    store.activate(replace(PROD, name="t"))
    assert TOKEN not in pyswarm("context", "inspect").out
    ran = pyswarm("context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "t", "gone")
    assert (ran.code, ran.out) == (1, "192.0.2.1:2377\n")
    assert 'context "gone" does not exist' in ran.err


def test_update_replaces_the_endpoint_as_a_whole(pyswarm: Pyswarm, tmp_path: Path) -> None:
    store.save(replace(PROD, playground="lab"))
    pyswarm("context", "update", "prod", "--description", "d")
    assert store.load("prod") == replace(PROD, playground="lab", description="d")
    assert pyswarm("context", "update", "prod", "--docker", files(tmp_path)).code == 0
    assert store.load("prod").material.token == ""
    assert "cannot be changed" in pyswarm("context", "update", "default", "--description", "d").err
    assert "does not exist" in pyswarm("context", "update", "gone").err


def test_create_without_an_endpoint_copies(pyswarm: Pyswarm) -> None:
    store.activate(PROD)
    pyswarm("context", "create", "b", "--description", "copy")
    assert store.load("b") == replace(PROD, name="b", description="copy")
    pyswarm("context", "create", "c", "--from", "default")
    assert store.load("c") == Context(name="c")
    ran = pyswarm("context", "create", "d", "--from", "b", "--docker", "host=h:1")
    assert "cannot specify both --from and --docker" in ran.err
    ran = pyswarm("context", "create", "d", "--from", "b", "--user", "ann")
    assert "cannot specify both --from and --user" in ran.err
    ran = pyswarm("context", "create", "d", "--user", "ann", "--docker", f"host=h:1,token={TOKEN}")
    assert "--user: expected no token, ca, cert or key in the endpoint" in ran.err


def test_create_without_an_endpoint_stores_what_commands_use(
    pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSWARM_HOST", PROD.host)
    monkeypatch.setenv("PYSWARM_TOKEN", TOKEN)
    ran = pyswarm("context", "create", "prod")
    assert (ran.code, ran.err) == (0, 'Successfully created context "prod"\n')
    assert store.load("prod") == PROD


def test_a_copy_of_a_playground_is_a_fleet(pyswarm: Pyswarm) -> None:
    lab = Context(name="lab", host="unix:///x", playground="lab")
    store.activate(lab)
    pyswarm("context", "create", "copy")
    assert store.load("copy") == replace(lab, name="copy", playground="")


def test_a_context_for_a_user_of_a_local_fleet_has_its_address(
    pyswarm: Pyswarm, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issued(request: pb.IssueUserCertificateRequest) -> pb.IssueUserCertificateReply:
        return pb.IssueUserCertificateReply(chain=CA.of_request(request.csr, "ann"), user_id="u")

    monkeypatch.delenv("PYSWARM_HOST")
    store.activate(Context(name="lab", host=script.host))
    script.on("IssueUserCertificate", issued)
    script.on("GetCa", pb.CaReply(certificate=CA.roots))
    script.on("GetInfo", pb.GetInfoReply(join_addr=PROD.host))
    assert pyswarm("context", "create", "ann", "--user", "ann").code == 0
    made = store.load("ann")
    assert made.host == PROD.host


def test_a_context_without_credentials_is_noted(pyswarm: Pyswarm) -> None:
    ran = pyswarm("context", "create", "bare", "--docker", "host=h:1")
    assert (ran.code, ran.out) == (0, "bare\n")
    assert 'note: context "bare" has no credentials for h:1: `pyswarm context update' in ran.err
    assert "note" not in pyswarm("context", "create", "own", "--docker", "host=unix:///x").err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("host=unix:///x,token=TOKEN", "is a socket, which needs no ca, cert, key or token"),
        ("FILES,token=TOKEN", "expected token=, or cert= and key=, not both"),
        ("host=h:1,token=PYSWU-1-x", "the token is not valid: it has 3 parts instead of 5"),
        ("host=h:1,ca=DIR/ca.pem", "cert= is missing: a certificate needs ca=FILE, cert=FILE"),
        ("host=h:1,ca=DIR/ca.pem,cert=DIR/cert.pem,key=DIR/other.pem", "it is not the key of the"),
        ("host=h:1,ca=DIR/cert.pem,cert=DIR/cert.pem,key=DIR/key.pem", "ca: it did not issue the"),
        ("host=h:1,ca=DIR/key.pem,cert=DIR/cert.pem,key=DIR/key.pem", "ca: expected a certificate"),
        ("host=h:1,ca=DIR/ca.pem,cert=DIR/cert.pem,key=DIR/ca.pem", "key: expected a private key"),
        ("host=h:1,ca=DIR/none.pem", "--docker: no such file or directory"),
        ("host=h:1,ca=DIR/big.pem", "big.pem is larger than 256 KiB"),
        ("host=h:1,ca=DIR/bytes.pem", "bytes.pem is not PEM or a token"),
        ("host=h:1,token=OTHER,ca=DIR/ca.pem", "the digest in the token is that of another"),
    ],
)
def test_credentials_that_do_not_belong_together_are_refused(
    pyswarm: Pyswarm, tmp_path: Path, change: str, reason: str
) -> None:
    whole = files(tmp_path)
    (tmp_path / "other.pem").write_bytes(CA.user("alice").key_pem)
    (tmp_path / "big.pem").write_bytes(b"x" * (256 << 10) + b"x")
    (tmp_path / "bytes.pem").write_bytes(b"\xff")
    other = str(UserToken(digest_of(b"other"), "0" * 25, secret_of(7)))
    text = change.replace("FILES", whole).replace("TOKEN", TOKEN).replace("OTHER", other)
    ran = pyswarm("context", "create", "prod", "--docker", text.replace("DIR", str(tmp_path)))
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.err
    assert secret_of(7) not in ran.err
    assert store.names() == ["default"]


def test_there_are_no_credentials_for_a_bare_host(pyswarm: Pyswarm) -> None:
    ran = pyswarm("-H", "192.0.2.1:2377", "service", "ls")
    assert ran.code == 1
    assert "there are no credentials for 192.0.2.1:2377: `pyswarm context create NAME" in ran.err
    store.save(replace(PROD, material=Material()))
    ran = pyswarm("-c", "prod", "service", "ls")
    assert (
        'context "prod" has no credentials for 192.0.2.1:2377: `pyswarm context update' in ran.err
    )


def test_leaving_uses_the_certificate_of_the_node() -> None:
    mine = Certificate(roots="roots", chain="chain", key="key")
    node = Identity("n1", ("192.0.2.8:2377", "192.0.2.1:2377"), mine)
    material = Material(ca="roots", cert="chain", key="key")
    assert node.context == Context(name="", host="192.0.2.8:2377", material=material)


def test_an_expired_certificate_is_replaced_by_a_new_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnosis, "peer_chain", lambda host: ())
    own = CA.expired(Unit.USER, "alice")
    pems = (own.ca_pem.decode(), own.cert_pem.decode(), own.key_pem.decode())
    error = str(diagnosis.cause(replace(PROD, material=Material(*pems))))
    assert error.startswith('the certificate of context "prod" expired at')
    assert error.endswith("makes a new one with `pyswarm context create NAME --user USER`")
