"""Flags and commands of `docker compose` that are refused, each with what to use instead. PURE."""

from collections.abc import Mapping
from typing import Any

import click

_DRY_RUN = "`pyswarm compose up --dry-run` shows what would change"
_DIGESTS = "`up` stores the digests of the images; `compose images` shows them"

REFUSED: Mapping[str, Mapping[str, str]] = {
    "": {
        "--all-resources": "what no service uses is not created: `pyswarm network create` and"
        " `volume create` make it",
        "--compatibility": "containers are named PROJECT-SERVICE-1, services PROJECT_SERVICE",
    },
    "build": {
        "--builder": "there is one builder, buildah on this machine",
        "--check": "a build names the line of the Dockerfile that is wrong",
        "-m --memory": "steps run without limits of their own; limit the build by `systemd-run -p"
        " MemoryMax=1G`",
        "--print": "`pyswarm compose config` prints the build sections",
        "--provenance": "buildah makes no attestations",
        "--sbom": "buildah makes no attestations",
        "--ssh": "fetch what needs the key before the build",
    },
    "config": {
        "--lock-image-digests": _DIGESTS,
        "--models": "models are not supported: run the model as a service",
        "--resolve-image-digests": _DIGESTS,
    },
    "up": {
        "--menu": "there is no menu: `pyswarm compose logs -f` follows the logs again after -d",
        "-w --watch": "run `pyswarm compose up -d --build` after a change",
    },
}
"""Verb -> names of a flag -> why it is refused. The verb "" is the command `compose` itself."""
OF_ALL: Mapping[str, str] = {"--dry-run": _DRY_RUN}
"""Flags that all verbs of Docker have."""
PLANS = ("up", "create")
"""The verbs that have them."""
SWITCHES = (
    "--all-resources --compatibility --check --print --dry-run --lock-image-digests --models"
    " --resolve-image-digests --menu -w --watch"
).split()
"""Those without a value."""
COMMANDS: Mapping[str, str] = {
    "bridge": "a fleet runs the files as they are, with `pyswarm compose up`",
    "commit": "build the image from a Dockerfile, or use `pyswarm export` and `pyswarm import`",
    "publish": "keep the files in a repository; `pyswarm compose config` prints one file that has"
    " all of them",
    "watch": "run `pyswarm compose up -d --build` after a change",
}
"""Verbs of Docker that pyswarm does not have, and what to use instead."""


def options(verb: str) -> list[click.Option]:
    """The refused options of a verb, which `--help` does not list."""
    refused = {**REFUSED.get(verb, {}), **({} if verb in PLANS else OF_ALL)}
    return [_option(names.split(), why) for names, why in refused.items()]


def command(name: str) -> click.Command:
    """The verb that says what to use instead."""

    def refuse(words: tuple[str, ...]) -> None:
        del words
        raise click.UsageError(f"compose {name} is not supported: {COMMANDS[name]}")

    return click.Command(
        name,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        callback=refuse,
        context_settings={"ignore_unknown_options": True},
        help=f"Not supported: {COMMANDS[name]}",
        hidden=True,
    )


def _option(names: list[str], why: str) -> click.Option:
    shown = names[-1]

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{shown} is not supported: {why}", ctx)

    more: dict[str, Any] = {"is_flag": True} if shown in SWITCHES else {"multiple": True}
    return click.Option(names, hidden=True, expose_value=False, callback=refuse, **more)
