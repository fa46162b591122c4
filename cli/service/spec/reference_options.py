"""Docker's flags of secrets and configs: of `service create` and `service update`. SHELL: only by
importing click.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from pyswarm_core.payloads import syntax
from pyswarm_core.specs import ContainerSpec

F = TypeVar("F", bound=Callable[..., Any])

_FORM = "NAME[@VERSION], or source=NAME,target=PATH,uid=0,gid=0,mode=0444"


def lists(command: F) -> F:
    """Add `--secret` and `--config` to `service create`."""
    for kind in ("config", "secret"):
        command = click.option(
            f"--{kind}", multiple=True, metavar=kind.upper(),
            help=f"Specify {kind}s to expose to the service: {_FORM}",
        )(command)  # fmt: skip
    return click.option(
        "--secret-env", multiple=True, metavar="VARIABLE=NAME",
        help="Set a variable to a secret: VARIABLE=NAME[@VERSION]; a file (--secret) is safer",
    )(command)  # fmt: skip


def changes(command: F) -> F:
    """Add `--secret-add`, `--secret-rm`, `--config-add` and `--config-rm` to `update`."""
    for kind in ("config", "secret"):
        command = click.option(
            f"--{kind}-rm", multiple=True, metavar="NAME", help=f"Remove a {kind}"
        )(command)
        command = click.option(
            f"--{kind}-add", multiple=True, metavar=kind.upper(),
            help=f"Add or update a {kind} on a service: {_FORM}",
        )(command)  # fmt: skip
    command = click.option(
        "--secret-env-rm", multiple=True, metavar="VARIABLE", help="Remove a variable of a secret"
    )(command)
    return click.option(
        "--secret-env-add", multiple=True, metavar="VARIABLE=NAME",
        help="Set or change a variable of a secret: VARIABLE=NAME[@VERSION]",
    )(command)  # fmt: skip


def tell(texts: Iterable[str]) -> None:
    """Print why files are better, for each value of `--secret-env`. Raises InvalidArgument."""
    for one in map(syntax.secret_env, texts):
        click.echo(
            f"notice: --secret-env {one.env}: every program that the container starts gets the"
            f" variable, and may log it; the file of --secret {one.source} is read by those that"
            " need it",
            err=True,
        )


def with_lists(spec: ContainerSpec, given: Mapping[str, Any]) -> ContainerSpec:
    """The spec with the secrets and configs of `service create`. Raises InvalidArgument."""
    return replace(
        spec,
        secrets=(
            *map(syntax.secret, given["secret"]),
            *map(syntax.secret_env, given["secret_env"]),
        ),
        configs=tuple(map(syntax.config, given["config"])),
    )


def changed(given: Mapping[str, Any]) -> Callable[[ContainerSpec], ContainerSpec]:
    """What the flags of `service update` change. Raises InvalidArgument."""
    secrets = tuple(syntax.secret(text, "--secret-add") for text in given["secret_add"])
    configs = tuple(syntax.config(text, "--config-add") for text in given["config_add"])

    env = tuple(syntax.secret_env(text, "--secret-env-add") for text in given["secret_env_add"])

    def change(spec: ContainerSpec) -> ContainerSpec:
        files = syntax.merged(spec.secrets, secrets, given["secret_rm"])
        return replace(
            spec,
            secrets=syntax.merged_variables(files, env, given["secret_env_rm"]),
            configs=syntax.merged(spec.configs, configs, given["config_rm"]),
        )

    return change
