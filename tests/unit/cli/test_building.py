"""`pyswarm build`: its command line for buildah, its errors, and buildah's output as steps."""

import json
import tomllib
from pathlib import Path

import pytest

from cli.image.building import bases, transcript
from cli.image.building.display import header
from cli.image.building.live import Live
from cli.image.building.transcript import Kind, Transcript
from cli.registry.opening import Endpoint
from pyswarm_core.docker.building import recipe
from pyswarm_core.docker.building.dockerfile import parse_dockerfile
from pyswarm_core.docker.building.recipe import Inputs, Recipe
from pyswarm_core.errors import InvalidArgument
from tests.unit.cli.conftest import Pyswarm

INPUTS = Inputs("/ctx", "/ctx/Dockerfile", "/run/ignored", "/run/iid", "/etc/policy.json")


def line(**given: object) -> str:
    return " ".join(recipe.words(Recipe(context=".", **given), INPUTS))  # type: ignore[arg-type]


def test_the_command_line_of_buildah() -> None:
    assert line() == (
        "build --format docker --layers --force-rm --isolation chroot --pull=false"
        " --signature-policy /etc/policy.json --iidfile /run/iid --file /ctx/Dockerfile"
        " --ignorefile /run/ignored /ctx"
    )
    more = line(
        tags=(recipe.tag("web:1"), recipe.tag("r:5000/web")),
        build_args=("A=1", "B"),
        labels=("x=y",),
        target="base",
        no_cache=True,
        pull=True,
        secrets=(recipe.secret("id=a,src=b"),),
        platform="linux/arm64",
        add_hosts=("db:10.0.0.1",),
        cache_from="r:5000/cache",
    )
    assert "--pull=always" in more
    assert more.endswith(
        "--tag=docker.io/library/web:1 --tag=r:5000/web:latest --build-arg=A=1 --build-arg=B"
        " --label=x=y --secret=id=a,type=file,src=b --add-host=db:10.0.0.1"
        " --cache-from=r:5000/cache --target=base --platform=linux/arm64 --no-cache /ctx"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id=a", "id=a,type=file,src=a"),
        ("id=a,src=b/c", "id=a,type=file,src=b/c"),
        ("type=file,source=b,id=a", "id=a,type=file,src=b"),
        ("id=a,env=B", "id=a,type=env,env=B"),
        ("id=a,type=env", "id=a,type=env,env=a"),
    ],
)
def test_secrets_have_their_type_for_buildah(text: str, said: str) -> None:
    assert recipe.secret(text) == said


BAD = [
    (("build",), "Missing argument 'PATH|-'"),
    (("build", "none"), 'PATH: value "none" is not valid: expected a directory that exists, or -'),
    (("build", "https://x/y.git"), "`git clone` it first"),
    (("build", "."), 'PATH: "." has no Dockerfile or Containerfile: use --file'),
    (
        ("build", "-f", "x", "."),
        '--file: value "x" is not valid: expected a file that exists, or -',
    ),
    (("build", "-f", ".", "."), "it is a directory: expected a Dockerfile"),
    (("build", "-f", "-", "-"), "--file -: standard input is the context already"),
    (("build", "-t", "A b", "."), '--tag: value "A b" is not valid: expected'),
    (("build", "-t", "a@sha256:" + "0" * 64, "."), "expected a name without a digest"),
    (
        ("build", "--secret", "x", "."),
        '--secret: value "x" is not valid: expected id=NAME[,src=FILE',
    ),
    (("build", "--secret", "id=a,src=/none", "GOOD"), 'file "/none" is not valid: expected a file'),
    (("build", "--secret", "id=a,env=NONE_", "GOOD"), 'variable "NONE_" is not valid: expected'),
    (("build", "--platform", "arm64", "."), "expected linux/ARCH[/VARIANT], as in linux/arm64"),
    (("build", "--platform", "linux/a,linux/b", "."), "expected one platform"),
    (("build", "--network", "bridge", "."), "expected one of default, host, none"),
    (("build", "--progress", "tty", "."), "expected one of auto, plain"),
    (("build", "--build-arg", "=1", "."), '--build-arg: value "=1" is not valid'),
    (("build", "--label", "=1", "."), '--label: value "=1" is not valid: expected KEY=VALUE'),
    (("build", "--cache-from", "A", "."), '--cache-from: value "A" is not valid: expected'),
    (("build", "--cache-from", "type=local,src=a", "."), "expected a repository, or type=registry"),
    (("build", "--cache-from", "a", "--cache-from", "b", "."), "expected one repository"),
    (("build", "--iidfile", "/none/x", "."), "--iidfile: /none/x cannot be written"),
    (("build", "--target", "x", "GOOD"), '--target: value "x" is not valid: expected a stage of'),
    (("build", "BAD"), 'Dockerfile:2: instruction "RUNN" is not valid: expected one of ADD, ARG'),
    (("build", "IGNORE"), '.dockerignore:1: pattern "[" is not valid: expected a pattern'),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(row[0])[:60] for row in BAD])
def test_bad_input_is_named_before_anything_is_built(
    words: tuple[str, ...],
    said: str,
    pyswarm: Pyswarm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in (
        ("GOOD", "FROM scratch"),
        ("BAD", "FROM scratch\nRUNN a"),
        ("IGNORE", "FROM scratch"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)
    (tmp_path / "IGNORE" / ".dockerignore").write_text("[")
    ran = pyswarm(*words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert not (tmp_path / "cache/pyswarm/build/storage").exists()


def test_the_fleets_registry_is_the_first_mirror_of_all_that_are_named() -> None:
    wanted = bases.references(["app", "app:2", "r:5000/a/b", "Not An Image"])
    host = [{"location": "r:5000", "insecure": True, "mirror": [{"location": "m"}]}]
    found = tomllib.loads(bases.mirrors(wanted, "127.0.0.1:9", host))
    assert found == {
        "unqualified-search-registries": ["docker.io"],
        "short-name-mode": "disabled",
        "registry": [
            {
                "prefix": "r:5000",
                "location": "r:5000",
                "insecure": True,
                "mirror": [
                    {"location": "127.0.0.1:9/r__5000", "insecure": True},
                    {"location": "m"},
                ],
            },
            {
                "prefix": "docker.io",
                "location": "docker.io",
                "mirror": [{"location": "127.0.0.1:9/docker.io", "insecure": True}],
            },
        ],
    }


def test_base_images_that_are_not_here_are_known() -> None:
    digest = "sha256:" + "a" * 64
    images: list[dict[str, object]] = [
        {"names": ["docker.io/library/app:1"], "digest": digest},
        {"id": "x"},
    ]
    for names, is_missing in (
        (["app:1"], False),
        ([f"app@{digest}", f"app:9@{digest}"], False),
        (["app"], True),
        (["app:1", "app@sha256:" + "b" * 64], True),
        ([], False),
    ):
        assert bases.missing(bases.references(names), images) is is_missing


def test_the_user_s_logins_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".docker").mkdir()
    own = {"auths": {"r:5000": {"auth": "x"}}, "credHelpers": {"s": "pass"}, "credsStore": "y"}
    (tmp_path / ".docker/config.json").write_text(json.dumps(own))
    given = tmp_path / "given"
    given.write_text('{"auths": {"127.0.0.1:9": {"auth": "z"}}}')
    file = bases.logins(Endpoint("127.0.0.1:9", given, "secret"), tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {
        "auths": {"r:5000": {"auth": "x"}, "127.0.0.1:9": {"auth": "z"}},
        "credHelpers": {"s": "pass"},
    }


def test_the_logins_of_a_build_are_those_that_count_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    docker = {"auths": {"a.test": {}, "b.test": {}, "c.test": {"auth": "Yw=="}},
              "credsStore": "noting"}  # fmt: skip
    podman = {"auths": {"b.test": {"auth": "Yg=="}}, "credHelpers": {"c.test": "other"}}
    for name, content in (
        ("docker/config.json", json.dumps(docker)),
        ("run/containers/auth.json", json.dumps(podman)),
        ("config/containers/auth.json", "[]"),
        ("own.json", '{"auths": {"127.0.0.1:9": {"auth": "eA=="}}}'),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    file = bases.logins(Endpoint("127.0.0.1:9", tmp_path / "own.json", "secret"), tmp_path)
    found = json.loads(file.read_text())
    assert found["credHelpers"] == {"a.test": "noting", "c.test": "other"}
    assert found["auths"]["b.test"] == {"auth": "Yg=="}
    assert found["auths"]["127.0.0.1:9"] == {"auth": "eA=="}


FILE = parse_dockerfile(
    "FROM scratch AS a\nCOPY x /\nRUN make\nFROM a\nCOPY --from=a /x /y\nRUN \\\n  make \\\n  all\n"
)


def test_output_becomes_steps_of_stages_that_run_at_the_same_time() -> None:
    seen = Transcript(FILE, "")
    steps = {}
    for text in (
        "[1/2] STEP 1/3: FROM scratch AS a",
        "[1/2] STEP 2/3: COPY x /",
        "[2/2] STEP 1/4: FROM " + "a" * 64,
        "[2/2] STEP 2/4: COPY --from=a /x /y",
        "[1/2] STEP 3/3: RUN make",
        "[2/2] STEP 3/4: RUN   make   all",
        '[2/2] STEP 4/4: LABEL "a"="b"',
    ):
        event = seen.feed(text)
        assert event.kind is Kind.STEP
        assert event.step is not None
        steps[text[:16]] = header(event.step, "Dockerfile")
    assert list(steps.values()) == [
        "[a 1/3] FROM scratch AS a (Dockerfile:1)",
        "[a 2/3] COPY x / (Dockerfile:2)",
        "[stage-1 1/4] FROM a (Dockerfile:4)",
        "[stage-1 2/4] COPY --from=a /x /y (Dockerfile:5)",
        "[a 3/3] RUN make (Dockerfile:3)",
        "[stage-1 3/4] RUN   make   all (Dockerfile:6)",
        '[stage-1 4/4] LABEL "a"="b"',
    ]
    failed = seen.failed('building at STEP "COPY --from=a /x /y": no such file')
    assert failed is not None
    assert failed.line == 5


def test_what_a_program_prints_is_no_step() -> None:
    seen = Transcript(FILE, "")
    seen.feed("[1/2] STEP 1/3: FROM scratch AS a")
    for text in ("STEP 3/3: RUN make", "[1/2] STEP 1/3: FROM b", "[9/9] STEP 2/3: x", "[1/2] STEP"):
        assert seen.feed(text).kind is Kind.OUTPUT
    assert seen.feed("--> Using cache abc").kind is Kind.CACHED
    assert seen.feed("[2/2] COMMIT web:1").kind is Kind.COMMIT
    assert seen.feed("subprocess exited with status 3").kind is Kind.ENDING


def test_the_cause_of_a_failure_is_buildahs_without_the_step() -> None:
    error = 'building at STEP "RUN a "b"": while running runtime: exit status 3'
    assert transcript.cause(error) == "exit status 3"
    assert (
        transcript.cause("initializing source docker://x: no")
        == "initializing source docker://x: no"
    )


def test_an_excerpt_marks_all_lines_of_the_instruction() -> None:
    assert transcript.excerpt(FILE, 6) == [
        "Dockerfile:6",
        "-" * 20,
        " 4 |     FROM a",
        " 5 |     COPY --from=a /x /y",
        " 6 | >>> RUN \\",
        " 7 | >>>   make \\",
        " 8 | >>>   all",
        "-" * 20,
    ]


def test_given_arguments_take_values_of_the_environment() -> None:
    asked = Recipe(context=".", build_args=("A=1", "B", "C"))
    assert asked.given_args({"B": "2", "A": "9"}) == {"A": "1", "B": "2"}


@pytest.mark.parametrize("text", ["type=registry,ref=A", "type=gha", "a,b"])
def test_caches_that_are_not_repositories_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--cache-to"):
        recipe.cache("--cache-to", [text])


def test_a_cache_is_a_repository() -> None:
    assert recipe.cache("--cache-from", ["type=registry,ref=r:5000/a/b"]) == "r:5000/a/b"
    assert recipe.cache("--cache-from", ["a"]) == "docker.io/library/a"
    assert recipe.cache("--cache-from", []) == ""


def test_a_terminal_shows_the_running_step_with_the_end_of_its_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen, live = Transcript(FILE, ""), Live(every_s=-1)
    live.show(seen.feed("[1/2] STEP 1/3: FROM scratch AS a"))
    live.show(seen.feed("[1/2] STEP 2/3: COPY x /"))
    live.show(seen.feed("--> Using cache abc"))
    live.show(seen.feed("[1/2] STEP 3/3: RUN make"))
    for number in range(9):
        live.show(seen.feed(f"\x1b[2Jrow {number}"))
    live.close(failed=True)
    shown = capsys.readouterr().err
    rows = [row.strip() for row in shown.splitlines()]
    assert any(row.startswith("[a 2/3] COPY x /") and "CACHED" in row for row in rows)
    assert any(row.startswith("[a 3/3] RUN make") and "FAILED" in row for row in rows)
    assert "[2Jrow 8" in rows, "a program's control characters reach the terminal"
