"""Records of changes: about which object, by whom, with which differences, and how large."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.changes.nodes import remove_node
from controller.api.changes.services import create_service, remove_service
from controller.api.changes.tasks import restart_task
from controller.api.stacking.apply import apply_stack
from controller.brain.slices import finish
from controller.identity import audit
from controller.identity.caller import ANONYMOUS, CONTROLLER, ROOT, Caller, CallerKind, Role
from controller.identity.differences import differences
from pyswarm_core.decision import Writes
from pyswarm_core.identity.audit import (
    AuditClass,
    AuditRecord,
    FieldChange,
    decode_record,
    encode_record,
)
from pyswarm_core.identity.author import Author
from pyswarm_core.identity.limits import AUDIT_RECORD_BYTES, AUDIT_VALUE_BYTES
from pyswarm_core.identity.users import User, UserId, UserSpec, UserToken
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.objects import Version
from pyswarm_core.specs import (
    ContainerMode,
    GlobalMode,
    NetworkAttachment,
    NetworkSpec,
    PortConfig,
    RegistryLogin,
    ReplicatedMode,
    ServiceSpec,
)
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState
from pyswarm_core.volumes.volume import VolumePlacement, VolumeSpec
from tests.fixtures import build, stacks
from tests.fixtures.build import NOW
from tests.fixtures.stacks import stack

ALICE = Caller(CallerKind.USER, "u1", "alice", Role.OPERATOR, (), "192.0.2.7")
WEB = build.service("web", replicas=2)


def record(state: State, writes: Writes, verb: str = "", caller: Caller = ALICE) -> AuditRecord:
    target = audit.target_of(state, writes)
    assert target is not None
    bare = audit.bare_record_of(target, caller, NOW, verb)
    return audit.record_of(state, writes, target, bare)


def changes(found: AuditRecord) -> list[tuple[str, str, str]]:
    return [(one.field, one.before, one.after) for one in found.changes]


def updated(**fields: Any) -> Writes:
    changed = replace(WEB, version=Version(index=WEB.version.index + 1), **fields)
    return Writes(objects=(changed,))


def test_a_record_names_caller_verb_object_and_version() -> None:
    state = build.state(services=[WEB])
    spec = replace(WEB.spec, labels={"a": "1"})
    found = record(state, updated(spec=spec), "service update")
    assert (found.caller_kind, found.caller_id, found.caller) == ("user", "u1", "alice")
    assert (found.role, found.address, found.at) == ("operator", "192.0.2.7", NOW)
    assert (found.verb, found.object, found.object_id) == ("service update", "service/web", WEB.id)
    assert found.version == WEB.version.index + 1
    assert (found.result, changes(found)) == ("ok", [("Labels.a", "", "1")])
    assert decode_record(encode_record(found)) == found


SPEC = WEB.spec
FORCED = replace(SPEC.task_template, force_update=SPEC.task_template.force_update + 1)
STOPPED = replace(SPEC, stopped=True)
SCALED = replace(SPEC, mode=ReplicatedMode(replicas=5))
CONTAINER = replace(SPEC, mode=ContainerMode())


def on(*targets: str) -> ServiceSpec:
    """A container on these networks."""
    networks = tuple(NetworkAttachment(target=target) for target in targets)
    return replace(CONTAINER, task_template=replace(SPEC.task_template, networks=networks))


@pytest.mark.parametrize(
    ("old", "new", "verb"),
    [
        (SPEC, SCALED, "service scale"),
        (SPEC, STOPPED, "service stop"),
        (STOPPED, SPEC, "service start"),
        (SPEC, replace(SPEC, task_template=FORCED), "service restart"),
        (SPEC, replace(SPEC, mode=GlobalMode()), "service update"),
        (SPEC, replace(SCALED, stopped=True), "service update"),
        (SPEC, replace(SCALED, task_template=FORCED), "service update"),
        (SPEC, replace(SCALED, labels={"a": "1"}), "service update"),
        (SPEC, SPEC, "service update"),
        (CONTAINER, on("bridge", "app"), "network connect"),
        (on("none"), on("app"), "network connect"),
        (on("app", "db"), on("db"), "network disconnect"),
        (on("app"), on("none"), "network disconnect"),
        (on("app"), on("db"), "service update"),
        (SPEC, replace(SPEC, task_template=on("app").task_template), "service update"),
    ],
)
def test_an_update_has_the_verb_of_the_command_that_makes_it(
    old: ServiceSpec, new: ServiceSpec, verb: str
) -> None:
    state = build.state(services=[replace(WEB, spec=old)])
    assert record(state, updated(spec=new), "service update").verb == verb
    assert record(state, updated(spec=new), "service rollback").verb == "service rollback"


def test_without_a_verb_it_follows_from_the_change() -> None:
    state = build.state(services=[WEB])
    made, _ = create_service(build.state(), WEB.spec, (), NOW, build.Numbered())
    removed, _ = remove_service(state, "web", NOW)
    assert record(build.state(), made).verb == "service create"
    assert (
        record(state, updated(spec=replace(WEB.spec, labels={"a": "1"}))).verb == "service update"
    )
    assert record(state, removed).verb == "service rm"


def test_a_login_is_recorded_as_changed_and_never_shown() -> None:
    login = RegistryLogin(registry="docker.io", username="me", password="hunter2")
    state = build.state(services=[WEB])
    found = record(state, updated(registry_login=login))
    assert changes(found) == [("RegistryLogin", "", "***")]
    again = build.state(services=[replace(WEB, registry_login=login)])
    other = replace(login, password="hunter3")
    assert changes(record(again, updated(registry_login=other))) == [
        ("RegistryLogin", "***", "***")
    ]
    assert b"hunter" not in encode_record(found)


def test_a_rotated_join_token_is_recorded_without_the_token() -> None:
    state = build.state()
    cluster = replace(state.cluster, worker_token="PYSWM-1-new")
    found = record(state, Writes(cluster=cluster), "swarm join-token")
    assert found.object_kind == "cluster"
    assert [one.field for one in found.changes] == ["WorkerToken"]
    assert b"PYSWM" not in encode_record(found)


def test_the_mesh_that_a_service_needs_is_named_beside_it() -> None:
    ports = (PortConfig(target_port=80, published_port=8080),)
    spec = replace(WEB.spec, endpoint_spec=replace(WEB.spec.endpoint_spec, ports=ports))
    state = build.state()
    writes, service = create_service(state, spec, (), NOW, build.Numbered())
    found = record(state, writes)
    assert found.object_id == service.id
    assert ("network ingress", "", "created") in changes(found)
    (network, _) = writes.objects
    assert audit.names_beside(writes) == (f"network/{network.id}",)


def test_removal_of_a_node_and_restart_of_a_task() -> None:
    state = build.state(
        nodes=[build.node("n1", state=NodeState.DOWN)],
        services=[WEB],
        tasks=[build.task("web.1", node="n1")],
    )
    gone, _ = remove_node(state, "n1", force=True)
    found = record(state, gone, "node rm")
    assert (found.object_kind, found.object_id, found.version) == ("node", "n1", 0)
    task = state.tasks[TaskId("web.1")]
    writes, _ = restart_task(state, task.id, NOW)
    found = record(state, writes, "task restart")
    assert (found.object_kind, found.object_name) == ("task", "web.1")
    assert changes(found) == [("DesiredState", "running", "shutdown")]
    target = audit.target_of(state, writes)
    assert target is not None
    assert target.name == f"chunk/{WEB.id}/00000000"


def test_copies_of_volumes_go_with_the_node_that_is_removed() -> None:
    anywhere = VolumeSpec(name="logs", placement=VolumePlacement.ANY)
    state = build.state(nodes=build.nodes(2))
    logs = replace(build.volume("logs", "n1", "n2"), spec=anywhere)
    old = replace(build.volume("old", "n1"), removing=True)
    state.apply(Writes(objects=(logs, old)))
    gone, _ = remove_node(state, "n1", force=True)
    found = record(state, gone, "node rm")
    assert (found.object_kind, found.object_id) == ("node", "n1")
    assert ("volume logs", "", "updated") in changes(found)
    assert ("volume old", "", "removed") in changes(found)
    assert audit.names_beside(gone) == ("volume/logs", "volume/old")


def test_what_changes_nothing_has_no_target() -> None:
    assert audit.target_of(build.state(), Writes()) is None


def test_a_record_is_bounded_and_says_what_it_omits() -> None:
    labels = {f"label{n}": "ä" * 400 for n in range(100)}
    state = build.state(services=[WEB])
    found = record(state, updated(spec=replace(WEB.spec, labels=labels)), "v" * 500)
    assert len(found.changes) + found.omitted == 100
    assert found.omitted > 0
    assert max(len(one.after.encode()) for one in found.changes) <= AUDIT_VALUE_BYTES == 256
    assert len(encode_record(found)) <= AUDIT_RECORD_BYTES < 4096


@pytest.mark.parametrize("size", [1, 10, 100, 300])
def test_prop_no_change_makes_a_larger_record(size: int) -> None:
    labels = {f"{n:04d}" + "k" * size: "v" * size for n in range(200)}
    caller = replace(ALICE, id="i" * 500, name="n" * 500, address="a" * 500)
    state = build.state(services=[WEB])
    found = record(state, updated(spec=replace(WEB.spec, labels=labels)), "v" * 500, caller)
    assert len(encode_record(found)) + len("/pyswarm/audit/change/") + 20 <= AUDIT_RECORD_BYTES


def test_a_refusal_has_the_error_without_its_secrets() -> None:
    error = 'value "DB_PASSWORD=hunter2" is not valid: ' + "x" * 1000
    found = audit.refusal_of(ALICE, NOW, "service update", "web", error)
    assert (found.object, found.changes) == ("service/web", ())
    assert found.result.startswith('value "DB_PASSWORD=***')
    assert len(found.result) <= 512
    assert audit.refusal_of(ALICE, NOW, "", "network/net1", "no").object == "network/net1"


def test_versions_get_their_author_and_observed_changes_do_not() -> None:
    state = build.state(services=[WEB])
    writes = updated(spec=replace(WEB.spec, labels={"a": "1"}))
    (item,) = writes.objects
    signed, answer = audit.signed(state, writes, item, ALICE)
    assert signed.objects[0] is answer
    assert answer == replace(item, updated_by=Author(name="alice", role="operator"))
    same = Writes(objects=(replace(WEB, removing=False),))
    assert audit.signed(state, same, None, ALICE)[0].objects == (WEB,)
    _, unnamed = audit.signed(state, writes, item, CONTROLLER)
    assert unnamed == item


def test_authors_are_shown_with_the_role_of_users() -> None:
    author = audit.author_of(ALICE)
    assert author is not None
    assert author.text == "alice (operator)"
    root = audit.author_of(ROOT)
    assert root is not None
    assert root.text == "root"
    assert audit.author_of(ANONYMOUS) is None
    assert (audit.name_of(ALICE), audit.name_of(ANONYMOUS)) == ("alice", "")


def test_hosts_have_a_class_of_their_own() -> None:
    agent = Caller(CallerKind.AGENT, "n1", "host1")
    assert audit.class_of(ALICE) is audit.class_of(ROOT) is AuditClass.CHANGE
    assert audit.class_of(agent) is audit.class_of(ANONYMOUS) is AuditClass.HOST


def test_a_drained_node() -> None:
    node = build.node("n1")
    state = build.state(nodes=[node])
    spec = replace(node.spec, availability=Availability.DRAIN)
    changed = replace(node, spec=spec, version=Version(index=node.version.index + 1))
    found = record(state, Writes(objects=(changed,)), "node update", ROOT)
    assert found.object_id == NodeId("n1")
    assert changes(found) == [("Availability", "active", "drain")]


def test_an_object_that_is_new_shows_its_spec() -> None:
    network = replace(build.network("net1"), spec=NetworkSpec(name="net1", internal=True))
    found = record(build.state(), Writes(objects=(network,)))
    assert ("Internal", "", "true") in changes(found)


def test_tokens_are_named_by_their_ids_and_never_shown() -> None:
    first, second = UserToken("a" * 25, hash="1" * 64), UserToken("b" * 25, hash="2" * 64)
    user = User(id=UserId("u2"), spec=UserSpec(name="ci"), tokens=(first,))
    state = build.state()
    state.apply(Writes(objects=(user,)))
    more, other = replace(user, tokens=(first, second)), replace(user, tokens=())
    assert changes(record(state, Writes(objects=(more,)))) == [("Tokens", "", "b" * 12)]
    assert changes(record(state, Writes(objects=(other,)))) == [("Tokens", "a" * 12, "")]


@pytest.mark.parametrize(
    "new",
    [
        build.node("n1"),
        build.network("net1"),
        build.volume("data"),
        WEB,
        User(id=UserId("u2"), spec=UserSpec(name="ci")),
    ],
    ids=lambda new: type(new).__name__,
)
def test_no_field_of_a_new_object_is_without_a_text(new: Any) -> None:
    found = changes(record(build.state(), Writes(objects=(new,))))
    assert [one for one in found if not any(one[1:])] == []
    assert not {"Tokens", "SecretOpts", "RegistryLogin"} & {field for field, _, _ in found}


@pytest.mark.parametrize(("count", "most"), [(3, 3), (200, 0)])
def test_a_record_of_a_stack_computes_what_fits(
    monkeypatch: pytest.MonkeyPatch, count: int, most: int
) -> None:
    """Each service's differences take about a millisecond of the leader's loop."""
    computed: list[str] = []

    def counted(old: Any, new: Any, path: str = "") -> Iterator[FieldChange]:
        computed.append(path)
        return differences(old, new, path)

    def spec(image: str) -> StackSpec:
        return stack("s", *(stacks.service("s", f"w{n}", image) for n in range(count)))

    state = build.state()
    stacks.applied(state, spec("web:1"))
    request = ApplyStack(spec=spec("web:2"))
    writes, _ = finish(apply_stack(state, request, (), NOW, stacks.IDS))
    monkeypatch.setattr(audit, "differences", counted)
    found = record(state, writes)
    assert len(computed) == most
    assert bool(found.omitted) == (most == 0)
    assert ("service s_w1", "", "updated") in changes(found)
