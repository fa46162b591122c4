"""Every program forbids TLS 1.2 before gRPC is imported, which reads the setting only then."""

import subprocess
import sys

import pytest

from tests.fixtures.source import ROOT

WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_SSL_CIPHER_SUITES"))

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    "modules",
    ["controller.__main__, controller.app", "agent.__main__, agent.app", "cli.main, cli.client"],
)
def test_the_variable_is_set_when_grpc_is_imported(modules: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCH}\nimport {modules}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["ECDHE-RSA-AES128-GCM-SHA256"]
