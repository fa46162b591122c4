"""What references to secrets and configs may be."""

import pytest
from msgspec.structs import replace

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.references import FileTarget, SecretReference
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation import service_problems
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures import build


def problems(
    *texts: str, configs: tuple[str, ...] = (), mounts: tuple[Mount, ...] = ()
) -> list[str]:
    template = build.template()
    spec = ContainerSpec(
        image="web",
        secrets=tuple(map(syntax.secret, texts)),
        configs=tuple(map(syntax.config, configs)),
        mounts=mounts,
    )
    template = replace(template, container_spec=spec)
    return list(map(str, service_problems(build.service("web", spec=template).spec)))


def test_one_source_at_several_targets_is_valid() -> None:
    assert not problems(
        "db",
        "source=db,target=sub/dir/db,uid=33,gid=4294967294,mode=0400",
        "source=db,target=/etc/db",
        configs=("db", "source=db,target=/etc/web/x", "src=db,target=/run/secrets/conf"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("source=db,target=../db", "without . and .."),
        ("source=db,target=a/../../db", "without . and .."),
        ("source=db,target=/", "without . and .."),
        ("source=db,target=/etc/db/", "without . and .."),
        ("source=db,target=/proc/1/environ", "outside of /proc, /sys, /dev"),
        ("source=db,target=/run/secrets", "where others need a directory"),
        ("source=a/b", 'value "a/b" is not valid'),
        ("source=db,uid=root", "names are not looked up"),
        ("source=db,gid=-1", "expected a number"),
        ("source=db,uid=4294967295", "expected a number of 0 to 4294967294"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    (problem,) = problems(text)
    assert told in problem


def test_targets_that_collide_are_refused_with_the_names() -> None:
    (told,) = problems("db", "source=other,target=db")
    assert "secret references db, other have a conflicting target" in told
    (told,) = problems("db", configs=("source=a,target=/run/secrets/db",))
    assert "secret and config references a, db have a conflicting target" in told
    (told,) = problems(configs=("source=a,target=/etc/x", "source=b,target=/etc/x/y"))
    assert "where others need a directory" in told
    mount = Mount(type=MountType.TMPFS, target="/etc/x")
    (told,) = problems(configs=("source=a,target=/etc/x",), mounts=(mount,))
    assert "expected no mount at the same path" in told
    mount = Mount(type=MountType.TMPFS, target="/run/secrets")
    (told,) = problems("db", mounts=(mount,))
    assert "where secrets are" in told
    assert not problems(mounts=(mount,))


def test_a_container_has_so_many() -> None:
    assert not problems(*(f"s{number}" for number in range(1_000)))
    (told, *_) = problems(*(f"s{number}" for number in range(1_001)))
    assert told == "--secret: count 1001 is not valid: expected at most 1000"


def test_the_long_form_and_the_short_one() -> None:
    file = FileTarget(name="db")
    assert syntax.secret("db") == SecretReference(secret_name="db", file=file)
    assert syntax.secret("src=db@12") == SecretReference(
        secret_name="db", number=12, pinned=True, file=file
    )
    assert syntax.secret("source=db,mode=0440").file.mode == 0o440


def env_problems(*texts: str, env: tuple[str, ...] = ()) -> list[str]:
    spec = ContainerSpec(image="web", secrets=tuple(map(syntax.secret_env, texts)), env=env)
    template = replace(build.template(), container_spec=spec)
    return list(map(str, service_problems(build.service("web", spec=template).spec)))


def test_a_variable_is_set_once() -> None:
    assert not env_problems("A=db", "B=db@3", env=("C=1",))
    (told,) = env_problems("A=db", "A=key")
    assert told == (
        '--secret-env: value "A" is not valid: expected no other --secret-env or --env of it'
    )
    (told,) = env_problems("A=db", env=("A=1",))
    assert "expected no other" in told
    (told,) = env_problems("A B=db")
    assert "the variable without spaces" in told
    (told,) = env_problems("A=../db")
    assert '--secret-env: value "../db"' in told


@pytest.mark.parametrize("text", ["A", "A=", "=db", "A=db@x", "A=db@0"])
def test_the_form_of_a_variable(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--secret-env"):
        syntax.secret_env(text)


def test_variables_and_files_are_removed_apart() -> None:
    old = (syntax.secret("db"), syntax.secret_env("A=db"), syntax.secret_env("B=db"))
    assert syntax.merged(old, (), ("db",)) == old[1:]
    new = syntax.secret_env("B=key@2")
    assert syntax.merged_variables(old, (new,), ("A",)) == (old[0], new)


def test_an_added_reference_replaces_one_at_its_path_and_a_name_removes_all_of_it() -> None:
    old = tuple(map(syntax.secret, ("db", "source=db,target=x", "key")))
    new = (syntax.secret("source=other,target=x"),)
    assert syntax.merged(old, new, ()) == (old[0], old[2], new[0])
    assert syntax.merged(old, new, ("db",)) == (old[2], new[0])
