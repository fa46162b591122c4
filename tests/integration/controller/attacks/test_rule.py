"""The rule of docs/security.md against many connections of one host, in a network of its own."""

import re
import subprocess
import sys
from pathlib import Path

from tests.fixtures.source import ROOT

_RULE = re.compile(r"```nft\n(.*?)```", re.DOTALL)
MOST = 200
PROGRAM = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "-f", sys.argv[1]], check=True)
both = {"family": socket.AF_INET6, "dualstack_ipv6": True}
listener = socket.create_server(("::", 2377), backlog=1000, **both)
held = []
def connect(target, source, count):
    accepted = 0
    for _ in range(count):
        try:
            held.append(socket.create_connection((target, 2377), 10, source_address=(source, 0)))
            accepted += 1
        except ConnectionRefusedError:
            pass
    return accepted
print(connect("127.0.0.1", "127.0.0.1", 205))
print(connect("127.0.0.1", "127.0.0.2", 5))
print(connect("::1", "::1", 205))
"""


def test_the_kernel_counts_the_connections_of_each_host(tmp_path: Path) -> None:
    (rule,) = _RULE.findall((ROOT / "docs/security.md").read_text(encoding="utf-8"))
    (tmp_path / "rule").write_text(rule, encoding="utf-8")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", PROGRAM, str(tmp_path / "rule")],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [str(MOST), "5", str(MOST)]
