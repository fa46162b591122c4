"""Dockerfiles of the shapes that people learn: one stage, several stages, users of their own."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from cli.registry.opening import Endpoint
from tests.fixtures import node
from tests.fixtures.debian import IMAGES_TIMEOUT_S
from tests.integration.images.builds import Builds
from tests.integration.images.registry import Registry, running_registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]

SIMPLE = """\
FROM node:18-alpine
WORKDIR /app
COPY package*.json ./
COPY vendor ./vendor
RUN npm install
COPY . .
EXPOSE 3000
CMD ["node", "server.js"]
"""
STAGES = """\
# The program is made in one stage and runs in another.
FROM node:18-alpine AS builder
WORKDIR /app
COPY package*.json ./
COPY vendor ./vendor
RUN npm ci --only=production
COPY . .
RUN npm run build

FROM node:18-alpine
RUN addgroup -g 1001 -S nodejs
RUN adduser -S nodejs -u 1001
WORKDIR /app
COPY --from=builder --chown=nodejs:nodejs /app/dist ./dist
COPY --from=builder --chown=nodejs:nodejs /app/node_modules ./node_modules
COPY --from=builder --chown=nodejs:nodejs /app/package*.json ./
USER nodejs
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \\
  CMD node healthcheck.js
CMD ["node", "dist/server.js"]
"""
SMALL = """\
FROM node:18-alpine AS builder
WORKDIR /app
COPY package*.json ./
COPY vendor ./vendor
RUN npm ci --only=production
COPY . .

FROM node:18-alpine
RUN addgroup -S nodejs && adduser -S nodejs
WORKDIR /app
COPY --from=builder --chown=nodejs:nodejs /app ./
USER nodejs
CMD ["node", "server.js"]
"""
PACKAGE = {
    "name": "greeter",
    "version": "1.0.0",
    "scripts": {"build": "mkdir dist && cp server.js dist/"},
    "dependencies": {"hello": "file:vendor/hello"},
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that has node:18-alpine as the fleet's registry would."""
    with running_registry(tmp_path_factory.mktemp("registry")) as found:
        target = f"docker://{found.address}/docker.io/library/node:18-alpine"
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"dir:{node.image()}"]
        subprocess.run([*copy, target], check=True)
        yield found


@pytest.fixture(scope="module")
def builds(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    folder = tmp_path_factory.mktemp("builds")
    authfile = folder / "none.json"
    authfile.write_text("{}")
    made = Builds(folder, Endpoint(registry.address, authfile, ""))
    made.write(
        {
            "package.json": json.dumps(PACKAGE),
            "package-lock.json": "{}",
            "vendor/hello/index.js": "module.exports = () => 'hello';\n",
            "server.js": "console.log(require('hello')());\n",
            "healthcheck.js": "process.exit(0);\n",
            ".env": "secret",
            "README.md": "text",
            ".dockerignore": "node_modules\n.git\n.env\n*.md\n.dockerignore\nDockerfile*\n",
            "Dockerfile": STAGES,
            "Dockerfile.simple": SIMPLE,
            "Dockerfile.small": SMALL,
        }
    )
    return made


def test_one_stage(builds: Builds) -> None:
    built = builds.build(file="Dockerfile.simple", tags=("simple:1",))
    files = built.files("/app")
    assert {"server.js", "node_modules/hello/index.js"} <= files.keys()
    assert not {".env", "README.md", "Dockerfile"} & files.keys()
    assert built.config()["config"]["Cmd"] == ["node", "server.js"]
    assert run(builds, built.image, "node", "server.js") == "hello\n"


def test_several_stages_a_user_and_a_health_check(
    builds: Builds, capfd: pytest.CaptureFixture[str]
) -> None:
    built = builds.build()
    config = built.config()["config"]
    assert (config["User"], config["WorkingDir"]) == ("nodejs", "/app")
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "node healthcheck.js"]
    assert run(builds, built.image, "sh", "-c", "id -u; node dist/server.js") == "1001\nhello\n"
    owners = run(builds, built.image, "sh", "-c", "stat -c %u:%g dist dist/server.js node_modules")
    assert owners.split() == ["1001:1001"] * 3
    capfd.readouterr()
    assert builds.build().image == built.image
    shown = capfd.readouterr().err
    assert "added hello" not in shown
    assert shown.count("CACHED") == 16, shown


def test_a_system_user_without_a_number(builds: Builds) -> None:
    built = builds.build(file="Dockerfile.small", tags=("small:1",))
    words = ("sh", "-c", "id -u; stat -c %U:%G server.js; node server.js")
    assert run(builds, built.image, *words) == "100\nnodejs:nodejs\nhello\n"


def run(builds: Builds, image: str, *words: str) -> str:
    container = builds.storage.run("from", "--quiet", image).strip()
    try:
        return builds.storage.run("run", "--isolation=chroot", container, "--", *words)
    finally:
        builds.storage.run("rm", container)
