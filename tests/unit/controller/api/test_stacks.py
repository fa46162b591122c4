"""Stacks applied to a state: what changes, what is kept, what is refused."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.changes.services import (
    Update,
    create_service,
    remove_service,
    update_service,
)
from controller.api.changes.volumes import remove_volume
from controller.api.payloads.changes import remove_payload
from controller.api.stacking.finish import finish_stack, remove_stack, rollback_stack, settled
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.kinds import CONFIG, NETWORK, SECRET, SERVICE, STACK, VOLUME, encode
from pyswarm_core.objects import Service
from pyswarm_core.specs import ReplicatedMode, ServiceSpec
from pyswarm_core.stacks.dependencies import Dependency
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.stacks import (
    IDS,
    SHOP,
    actions,
    applied,
    payload,
    service,
    stack,
    volume,
    with_service,
)


@pytest.fixture
def state() -> State:
    return build.state()


def named(state: State, name: str) -> Service:
    return state.services[state.service_of_name[name]]


def stored(state: State, name: str = "shop") -> Stack:
    return state.of(STACK)[state.ids_of_names(STACK)[name]]


def scaled(state: State, name: str, replicas: int) -> None:
    found = named(state, name)
    spec = replace(found.spec, mode=ReplicatedMode(replicas=replicas))
    writes, _ = update_service(state, Update(found.id, found.version, spec), (), NOW, IDS)
    state.apply(writes)


def complete(state: State) -> None:
    """Everything that the leader does by itself."""
    for _ in range(3):
        for one in list(state.of(STACK)):
            writes, _ = finish(finish_stack(state, one, (), NOW, IDS))
            state.apply(writes)


def test_a_new_stack_has_everything_in_one_change(state: State) -> None:
    reply = applied(state, SHOP)
    assert actions(reply) == dict.fromkeys(
        ("shop_default", "shop_data", "shop_password", "shop_page", "shop_web", "shop_db"),
        "created",
    )
    db = named(state, "shop_db").spec.task_template
    assert db.networks[0].target == state.network_of_name["shop_default"]
    assert db.container_spec.secrets[0].number == 1
    assert db.container_spec.secrets[0].id in state.of(SECRET)
    assert {(one.kind, one.name) for one in stored(state).members} == {
        ("network", "shop_default"),
        ("volume", "shop_data"),
        ("secret", "shop_password"),
        ("config", "shop_page"),
        ("service", "shop_web"),
        ("service", "shop_db"),
    }


def test_a_dry_run_changes_nothing_and_shows_the_same(state: State) -> None:
    plan = applied(state, SHOP, dry_run=True)
    assert not state.services
    assert not state.networks
    assert actions(plan) == actions(applied(state, SHOP))


def test_the_same_again_changes_nothing(state: State) -> None:
    applied(state, SHOP)
    before = dict(state.services)
    again = replace(SHOP, services=tuple(reversed(SHOP.services)))
    reply = applied(state, again)
    assert actions(reply) == {}
    assert dict(state.services) == before
    assert stored(state).version.index == 1


def test_order_and_later_duplicates_mean_the_same(state: State) -> None:
    one = service("shop", "web", env=("A=1", "B=2"), capability_add=("NET_ADMIN", "SYS_TIME"))
    two = service(
        "shop", "web", env=("B=9", "B=2", "A=1"), capability_add=("SYS_TIME", "NET_ADMIN")
    )
    applied(state, stack("shop", one))
    assert actions(applied(state, stack("shop", two))) == {}


def test_only_what_changed_is_touched(state: State) -> None:
    applied(state, SHOP)
    db = named(state, "shop_db")
    web = service("shop", "web", "web:2", replicas=2, port=8080, config="page")
    reply = applied(state, with_service(SHOP, web))
    assert actions(reply) == {"shop_web": "replaced"}
    assert named(state, "shop_db") is db
    (change,) = [one for one in reply.changes if one.name == "shop_web"]
    assert "Image: web:1 -> web:2" in change.difference


def test_more_replicas_replace_no_task(state: State) -> None:
    applied(state, SHOP)
    web = service("shop", "web", replicas=5, port=8080, config="page")
    assert actions(applied(state, with_service(SHOP, web))) == {"shop_web": "updated"}


def test_a_scale_by_hand_is_kept_until_the_file_changes(state: State) -> None:
    applied(state, SHOP)
    scaled(state, "shop_web", 9)
    reply = applied(state, SHOP)
    (change,) = [one for one in reply.changes if one.name == "shop_web"]
    assert change.action == "kept"
    assert change.reason == "9 by hand, the file says 2; --reset-scale"
    assert named(state, "shop_web").spec.mode == ReplicatedMode(replicas=9)
    applied(state, SHOP, reset_scale=True)
    assert named(state, "shop_web").spec.mode == ReplicatedMode(replicas=2)
    scaled(state, "shop_web", 9)
    web = service("shop", "web", replicas=3, port=8080, config="page")
    applied(state, with_service(SHOP, web))
    assert named(state, "shop_web").spec.mode == ReplicatedMode(replicas=3)


def test_the_number_of_one_service_is_set_and_those_of_others_stay(state: State) -> None:
    applied(state, SHOP)
    scaled(state, "shop_web", 9)
    scaled(state, "shop_db", 7)
    reply = applied(state, SHOP, rescaled=("shop_web",))
    assert actions(reply) == {"shop_web": "updated", "shop_db": "kept"}
    assert named(state, "shop_web").spec.mode == ReplicatedMode(replicas=2)
    assert named(state, "shop_db").spec.mode == ReplicatedMode(replicas=7)


def test_other_data_is_a_new_version_and_its_services_follow(state: State) -> None:
    applied(state, SHOP)
    web = named(state, "shop_web")
    changed = replace(SHOP, secrets=(payload("shop", "password", b"another"),))
    reply = applied(state, changed)
    assert actions(reply) == {"shop_password": "updated", "shop_db": "replaced"}
    db = named(state, "shop_db")
    assert db.spec.task_template.container_spec.secrets[0].number == 2
    assert db.version.index == 2, "one update, not two"
    assert named(state, "shop_web") is web
    assert b"another" not in encode(stored(state))


def test_a_service_of_others_follows_a_secret(state: State) -> None:
    applied(state, SHOP)
    other = service("tool", "backup", networks=())
    used = SHOP.services[1].task_template.container_spec.secrets
    container = replace(other.task_template.container_spec, secrets=used)
    template = replace(other.task_template, container_spec=container)
    writes, _ = create_service(state, replace(other, task_template=template), (), NOW, IDS)
    state.apply(writes)
    reply = applied(state, replace(SHOP, secrets=(payload("shop", "password", b"two"),)))
    assert actions(reply)["tool_backup"] == "replaced"
    container = named(state, "tool_backup").spec.task_template.container_spec
    assert container.secrets[0].number == 2


def test_an_apply_is_refused_if_the_stack_changed_since_the_plan(state: State) -> None:
    applied(state, SHOP)
    plan = applied(state, SHOP, dry_run=True)
    assert actions(applied(state, SHOP, revision=plan.revision)) == {}
    scaled(state, "shop_web", 4)
    with pytest.raises(Conflict, match="changed between plan and apply: run it again"):
        applied(state, SHOP, revision=plan.revision)


def test_a_plan_of_a_new_stack_is_refused_once_it_exists(state: State) -> None:
    plan = applied(state, SHOP, dry_run=True)
    applied(state, SHOP)
    with pytest.raises(Conflict, match="run it again"):
        applied(state, SHOP, revision=plan.revision)


def test_what_left_the_file_stays_unless_it_is_pruned(state: State) -> None:
    applied(state, SHOP)
    less = stack("shop", SHOP.services[0], configs=SHOP.configs)
    reply = applied(state, less)
    assert actions(reply) == {"shop_data": "kept", "shop_password": "kept", "shop_db": "kept"}
    assert "shop_db" in state.service_of_name
    reply = applied(state, less, prune=True)
    assert actions(reply) == {
        "shop_data": "kept",
        "shop_password": "removed",
        "shop_db": "removed",
    }
    assert "shop_db" not in state.service_of_name
    settle(state)
    gone(state)
    complete(state)
    assert not state.of(SECRET)
    assert len(state.of(VOLUME)) == 1


def settle(state: State) -> None:
    for one in list(state.of(STACK).values()):
        state.apply(settled(state, one.id, one.version)[0])


def gone(state: State) -> None:
    """Services that are being removed, and have no tasks, are removed."""
    names = [f"service/{one.id}" for one in state.services.values() if one.removing]
    state.apply(Writes(removed=tuple(names)))  # type: ignore[arg-type]


def test_a_network_stays_while_others_use_it(state: State) -> None:
    applied(state, SHOP)
    other = replace(service("tool", "x", networks=()), labels={})
    joined = SHOP.services[0].task_template.networks
    template = replace(other.task_template, networks=joined)
    writes, _ = create_service(state, replace(other, task_template=template), (), NOW, IDS)
    state.apply(writes)
    state.apply(finish(remove_stack(state, "shop", NOW, IDS, volumes=False))[0])
    complete(state)
    gone(state)
    complete(state)
    assert not state.of(STACK)
    assert list(state.network_of_name) == ["shop_default", "ingress"]


def test_removal_takes_all_but_volumes_once_the_tasks_have_ended(state: State) -> None:
    applied(state, SHOP)
    settle(state)
    writes, reply = finish(remove_stack(state, "shop", NOW, IDS, volumes=False))
    state.apply(writes)
    assert actions(reply) == dict.fromkeys(
        ("shop_web", "shop_db", "shop_default", "shop_password", "shop_page"), "removed"
    )
    with pytest.raises(Conflict, match='stack "shop" is being removed'):
        applied(state, SHOP)
    complete(state)
    assert all(one.removing for one in state.services.values())
    assert stored(state).removing
    gone(state)
    complete(state)
    assert not state.of(STACK)
    assert not state.of(SECRET)
    assert not state.of(CONFIG)
    assert "shop_default" not in state.network_of_name
    assert len(state.of(VOLUME)) == 1
    assert actions(applied(state, SHOP))["shop_web"] == "created"


def test_a_rollback_returns_to_specs_and_versions(state: State) -> None:
    applied(state, SHOP)
    web = service("shop", "web", "web:2", replicas=2, port=8080, config="page")
    more = service("shop", "cache", "cache:1")
    changed = with_service(SHOP, web)
    changed = replace(
        changed,
        services=(*changed.services, more),
        secrets=(payload("shop", "password", b"two"),),
    )
    applied(state, changed)
    assert stored(state).spec_version == 2
    writes, reply = finish(rollback_stack(state, "shop", 0, (), now=NOW, ids=IDS))
    state.apply(writes)
    assert actions(reply) == {
        "shop_web": "replaced",
        "shop_db": "replaced",
        "shop_cache": "removed",
    }
    assert named(state, "shop_web").spec.task_template.container_spec.image == "web:1"
    container = named(state, "shop_db").spec.task_template.container_spec
    assert container.secrets[0].number == 1
    assert stored(state).spec_version == 3
    assert [one.version for one in stored(state).previous_specs] == [2, 1]
    assert stored(state).spec == stored(state).previous_specs[1].spec


def test_a_rollback_names_the_versions_that_are_kept(state: State) -> None:
    applied(state, SHOP)
    with pytest.raises(Conflict, match="no earlier version"):
        finish(rollback_stack(state, "shop", 0, (), now=NOW, ids=IDS))
    applied(
        state,
        stack(
            "shop",
            *SHOP.services,
            service("shop", "x"),
            configs=SHOP.configs,
            secrets=SHOP.secrets,
            volumes=SHOP.volumes,
        ),
    )
    with pytest.raises(InvalidArgument, match="expected an earlier version that is kept: 1"):
        finish(rollback_stack(state, "shop", 7, (), now=NOW, ids=IDS))
    with pytest.raises(NotFound):
        finish(rollback_stack(state, "none", 0, (), now=NOW, ids=IDS))


def test_a_leader_that_begins_makes_what_is_missing(state: State) -> None:
    """The stack and its secrets are stored before its services."""
    applied(state, SHOP)
    web = named(state, "shop_web")
    for name in ("shop_web", "shop_db"):
        state.apply(Writes(removed=(f"service/{state.service_of_name[name]}",)))  # type: ignore[arg-type]
    complete(state)
    assert not stored(state).applying
    assert replace(named(state, "shop_web"), id=web.id).spec == web.spec
    assert "shop_db" in state.service_of_name
    assert actions(applied(state, SHOP)) == {}


def test_a_leader_that_begins_removes_no_more_than_was_asked_for(state: State) -> None:
    applied(state, SHOP)
    less = stack("shop", SHOP.services[0], configs=SHOP.configs)
    applied(state, less)
    complete(state)
    assert not stored(state).is_unfinished
    assert "shop_db" in state.service_of_name
    before = dict(state.services)
    applied(state, less, prune=True)
    state.apply(Writes(objects=(before[state_id(before, "shop_db")],)))
    complete(state)
    assert "shop_db" not in state.service_of_name


def state_id(services: Any, name: str) -> Any:
    return next(one.id for one in services.values() if one.spec.name == name)


def test_versions_that_nothing_returns_to_are_removed(state: State) -> None:
    for number in range(16):
        data = str(number).encode()
        applied(state, replace(SHOP, secrets=(payload("shop", "password", data),)))
        settle(state)
        complete(state)
    numbers = sorted(one.number for one in state.of(SECRET).values())
    assert numbers[-1] == 16
    assert 1 not in numbers
    assert len(numbers) <= 12


def test_only_the_named_services_are_applied(state: State) -> None:
    applied(state, SHOP)
    changed = with_service(SHOP, service("shop", "db", "db:2", secret="password", volume="data"))
    changed = with_service(changed, service("shop", "web", "web:2", port=8080, config="page"))
    assert actions(applied(state, changed, services=("shop_db",))) == {"shop_db": "replaced"}
    images = {
        one.name: one.task_template.container_spec.image for one in stored(state).spec.services
    }
    assert images == {"shop_db": "db:2", "shop_web": "web:1"}
    with pytest.raises(InvalidArgument, match=r"no such service; did you mean shop_web\?"):
        applied(state, changed, services=("shop_wep",))


def test_a_service_is_recreated_on_request(state: State) -> None:
    applied(state, SHOP)
    assert actions(applied(state, SHOP, recreate=("shop_web",))) == {"shop_web": "replaced"}
    assert actions(applied(state, SHOP)) == {}


def test_an_image_that_is_not_looked_up_keeps_its_digest(state: State) -> None:
    digest = "sha256:" + "a" * 64
    pinned = service("shop", "web", f"web:1@{digest}")
    applied(state, stack("shop", pinned))
    assert actions(applied(state, stack("shop", service("shop", "web", "web:1")))) == {}
    changed = applied(state, stack("shop", service("shop", "web", "web:2")))
    assert actions(changed) == {"shop_web": "replaced"}


def test_the_labels_of_networks_and_volumes_may_change(state: State) -> None:
    applied(state, SHOP)
    labelled = replace(SHOP.networks[0], labels={**SHOP.networks[0].labels, "a": "b"})
    assert actions(applied(state, replace(SHOP, networks=(labelled,)))) == {
        "shop_default": "updated"
    }
    network_id = state.network_of_name["shop_default"]
    assert state.of(NETWORK)[network_id].spec.labels["a"] == "b"


def needing(one: ServiceSpec, *names: str) -> ServiceSpec:
    """The service, which depends on these of its stack."""
    found = tuple(Dependency(service=f"shop_{name}") for name in names)
    return replace(one, depends_on=found)


def test_dependencies_may_change_their_direction_in_one_change(state: State) -> None:
    web, db = service("shop", "web"), service("shop", "db")
    applied(state, stack("shop", needing(web, "db"), db))
    for order in ((web, needing(db, "web")), (db, needing(web, "db"))):
        applied(state, stack("shop", *reversed(order)))
        assert [one.service for one in named(state, order[1].name).spec.depends_on] == [
            order[0].name
        ]
        assert named(state, order[0].name).spec.depends_on == ()


def test_services_that_depend_on_each_other_in_a_circle_are_refused(state: State) -> None:
    a, b, c = (service("shop", name) for name in "abc")
    with pytest.raises(InvalidArgument, match=r"shop_\w → shop_\w → shop_\w → shop_\w"):
        applied(state, stack("shop", needing(a, "b"), needing(b, "c"), needing(c, "a")))
    assert not state.services


def test_a_service_that_followed_its_dependency_is_unchanged(state: State) -> None:
    spec = stack("shop", needing(service("shop", "web"), "db"), service("shop", "db"))
    applied(state, spec)
    web = named(state, "shop_web")
    template = replace(web.spec.task_template, force_update=1)
    state.apply(Writes(objects=(replace(web, spec=replace(web.spec, task_template=template)),)))
    assert actions(applied(state, spec)) == {}


def test_a_rollback_makes_no_volume_without_its_password(state: State) -> None:
    options = {"type": "cifs", "device": "//nas/x", "o": "addr=nas,username=u,password=right"}
    share = volume("shop", "share", driver_opts=options)
    applied(state, stack("shop", service("shop", "web", volume="share"), volumes=(share,)))
    applied(state, stack("shop", service("shop", "web")))
    writes, _ = remove_volume(state, "shop_share", NOW)
    state.apply(writes)
    found = stored(state)
    with pytest.raises(Conflict, match='volume "shop_share": it was removed, and had a password'):
        finish(rollback_stack(state, found.id, 0, (), now=NOW, ids=IDS))


def test_a_rollback_removes_nothing_that_another_stack_has_made_since(state: State) -> None:
    applied(state, stack("shop", service("shop", "web")))
    applied(state, stack("shop", service("shop", "web"), service("shop", "db")))
    writes, old = remove_service(state, "shop_db", NOW)
    state.apply(writes)
    state.apply(Writes(removed=(SERVICE.object_name(old.id),)))
    theirs = replace(service("other", "db", networks=()), name="shop_db")
    applied(state, stack("other", theirs))
    writes, reply = finish(rollback_stack(state, stored(state).id, 0, (), now=NOW, ids=IDS))
    state.apply(writes)
    complete(state)
    assert not named(state, "shop_db").removing
    assert actions(reply) == {}


def test_a_removal_leaves_what_another_stack_has_made_since(state: State) -> None:
    applied(state, stack("shop", secrets=(payload("shop", "key", b"x"),)))
    writes, _ = finish(remove_stack(state, "shop", NOW, IDS, volumes=False))
    state.apply(writes)
    writes, _ = remove_payload(state, SECRET, "shop_key", NOW)
    state.apply(writes)
    taken = payload("other", "key", b"y")
    taken = replace(taken, spec=replace(taken.spec, name="shop_key"))
    applied(state, stack("other", secrets=(taken,)))
    complete(state)
    assert not state.ids_of_names(STACK).get("shop")
    assert state.payloads[SECRET.name].of("shop_key")
