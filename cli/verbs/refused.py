"""Docker's commands that pyswarm does not have, and what to use instead."""

from collections.abc import Mapping

from cli.lazy import REFUSED

_TO_IMAGE = (
    "build the image from a Dockerfile: `pyswarm build`; `pyswarm export` and `pyswarm import`"
    " make one of a container's files"
)
_BUILDER = (
    "there is one builder, buildah, which needs no setup: `pyswarm build` runs it on this machine,"
    " or on the node of --node"
)
_DEBUG = "a failing step shows its output; `pyswarm build --target STAGE` ends before it"
_SCAN = (
    "`pyswarm save -o image.tar IMAGE` writes the archive of an image, which scanners such as trivy"
    " and grype read"
)
_DESKTOP = "it is a part of Docker Desktop"

_OF_BUILDS: Mapping[str, str] = {
    **dict.fromkeys("create inspect install ls rm stop uninstall use".split(), _BUILDER),
    "bake": "describe the builds in a Compose file: `pyswarm compose build` makes them",
    "dap": _DEBUG,
    "debug": _DEBUG,
    "du": "`pyswarm system df` shows the size of the build cache",
    "history": "builds are not recorded; `pyswarm history IMAGE` shows the steps of an image",
    "imagetools": "`pyswarm image inspect` shows an image, and `pyswarm tag` gives it another name",
    "version": "builds are made by buildah: `buildah --version`; `pyswarm version` shows this"
    " program's",
}
"""Those of `docker buildx`, of which `docker builder` is a second name."""

REFUSED_COMMANDS: Mapping[str, str] = {
    "pyswarm commit": _TO_IMAGE,
    "pyswarm container commit": _TO_IMAGE,
    "pyswarm checkpoint": REFUSED["--checkpoint"],
    "pyswarm plugin": "drivers are part of pyswarm: those of volumes are local, nfs and cifs, that"
    " of networks is overlay",
    "pyswarm manifest": "an image in the fleet's registry is of one platform; `pyswarm build"
    " --platform` chooses it",
    "pyswarm trust": "name digests, NAME@sha256:…, or give hosts a policy in"
    " /etc/containers/policy.json",
    "pyswarm volume update": "a volume's settings are those of `pyswarm volume create`; `pyswarm"
    " volume move` moves it",
    "pyswarm system dial-stdio": "`pyswarm context import` gives this machine a connection to the"
    " fleet",
    "pyswarm scout": _SCAN,
    "pyswarm sbom": _SCAN,
    "pyswarm scan": _SCAN,
    "pyswarm init": "write a Dockerfile and a Compose file; examples/ has some of each",
    "pyswarm debug": "`pyswarm exec -it CONTAINER sh` runs a shell in a container",
    "pyswarm model": "run the model's server as a service",
    **{
        f"pyswarm {name}": _DESKTOP
        for name in "ai cloud desktop dev extension feedback mcp offload pass sandbox".split()
    },
    **{
        f"pyswarm {group} {name}": instead
        for group in ("builder", "buildx")
        for name, instead in _OF_BUILDS.items()
    },
}
"""By the command as it is typed."""
