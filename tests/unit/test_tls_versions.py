"""What programs set before gRPC is imported, which reads it only then: none accepts TLS 1.2."""

import subprocess
import sys

import pytest

from tests.fixtures.source import ROOT

WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_SSL_CIPHER_SUITES"), os.environ.get("GRPC_EXPERIMENTS"))

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    ("modules", "given", "experiments"),
    [
        ("controller.__main__, controller.app", {}, "-event_engine_listener"),
        ("controller.__main__, controller.app", {"GRPC_EXPERIMENTS": "theirs"}, "theirs"),
        ("agent.__main__, agent.app", {}, "None"),
        ("cli.main, cli.client", {}, "None"),
    ],
)
def test_the_variables_are_set_when_grpc_is_imported(
    modules: str, given: dict[str, str], experiments: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCH}\nimport {modules}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["ECDHE-RSA-AES128-GCM-SHA256", experiments]
