"""Flags of `docker build` and `buildx build` that are refused, each with the reason. PURE."""

from collections.abc import Mapping
from typing import Any

import click

_LIMITS = "steps run without limits of their own; limit the build by `systemd-run -p MemoryMax=1G`"
_DRIVER = "there is one builder, buildah: on this machine, or on the node of --node"
_ATTESTATION = "buildah makes no attestations"
_RESULT = "a build has one result, an image; copy files out of it by `pyswarm cp`"

REFUSED: Mapping[str, str] = {
    "--cgroup-parent": _LIMITS,
    "--compress": "the context is read in place, or sent as it is (--node); layers are compressed"
    " when pushed",
    "--cpu-period": _LIMITS,
    "--cpu-quota": _LIMITS,
    "-c --cpu-shares": _LIMITS,
    "--cpuset-cpus": _LIMITS,
    "--cpuset-mems": _LIMITS,
    "-m --memory": _LIMITS,
    "--memory-swap": _LIMITS,
    "--ulimit": _LIMITS,
    "--disable-content-trust": "images are not signed; a digest in FROM pins a base image",
    "--isolation": "it is for Windows containers",
    "--security-opt": "steps run as root in a chroot; build untrusted files on a machine that"
    " has nothing else",
    "--shm-size": "steps have the machine's /dev/shm",
    "--squash": "use several stages: COPY --from=STAGE takes what the image needs",
    "--allow": "steps get no rights beyond the default ones",
    "--annotation": "Docker's image format has none; use --label",
    "--attest": _ATTESTATION,
    "--provenance": _ATTESTATION,
    "--sbom": _ATTESTATION,
    "--build-context": "use a stage: FROM IMAGE AS NAME, or copy the files into the context",
    "--builder": _DRIVER,
    "--call": "only build is supported",
    "--metadata-file": "use --iidfile",
    "--no-cache-filter": "use --no-cache",
    "-o --output": _RESULT,
    "--ssh": "use --secret for keys: RUN --mount=type=secret,id=NAME",
}
"""Names of a flag -> why it is refused."""
_SWITCHES: Mapping[str, str] = {
    "--check": "a build names the line of the Dockerfile that is wrong",
    "-D --debug": "a failing step shows its output",
}
_WITHOUT_VALUE = ("--compress", "--disable-content-trust", "--squash")


def options() -> list[click.Option]:
    """The options of these flags, which `--help` does not list."""
    return [_option(names.split(), why) for names, why in {**REFUSED, **_SWITCHES}.items()]


def _option(names: list[str], why: str) -> click.Option:
    shown = names[-1]
    is_switch = shown in _WITHOUT_VALUE or " ".join(names) in _SWITCHES

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{shown} is not supported: {why}", ctx)

    more: dict[str, Any] = {"is_flag": True} if is_switch else {"multiple": True}
    return click.Option(names, hidden=True, expose_value=False, callback=refuse, **more)
