"""A real Prometheus reads metrics with the configuration of docs/security.md."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
import yaml

from cli.playground.scraping import Scraper
from pyswarm_core.limits import (
    AGENT_HEALTH_PORT,
    AGENT_METRICS_PORT,
    CONTROLLER_HEALTH_PORT,
    CONTROLLER_METRICS_PORT,
)
from tests.e2e.acceptance.fleet import IMAGE, ROOT, Fleet
from tests.e2e.acceptance.web import page_at
from tests.fixtures.netns import inside

PAGE = ROOT / "docs/security.md"
SECTION = "## Metrics and health"
HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
SERVER = "127.0.0.1:19090"


def section() -> str:
    """The part of the page about metrics and health."""
    _, _, rest = PAGE.read_text().partition(f"{SECTION}\n")
    return rest.partition("\n## ")[0]


def scrape_configs() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(.*?)```", section(), re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@contextmanager
def prometheus(fleet: Fleet, folder: Path) -> Iterator[None]:
    """A Prometheus with the page's configuration, on a machine that is none of the hosts."""
    text = yaml.safe_dump({"global": {"scrape_interval": "1s"}, **scrape_configs()})
    assert "/etc/prometheus/" in text
    (folder / "prometheus.yml").write_text(text.replace("/etc/prometheus/", f"{folder}/"))
    (folder / "pyswarm-ca.pem").write_text(f"{fleet('swarm', 'ca')}\n")
    (folder / "pyswarm-scrape-token").write_text(f"{fleet('swarm', 'scrape-token')}\n")
    command = (
        *("nsenter", f"--net={fleet.netns('lan')}", "prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={SERVER}",
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        process.wait(120)


def query(fleet: Fleet, expression: str) -> dict[str, float]:
    """The value of an expression by instance; empty while Prometheus does not answer."""
    url = f"http://{SERVER}/api/v1/query?query={quote(expression)}"
    try:
        found = json.loads(page_at(fleet, "lan", url, 10))
    except (OSError, ValueError):
        return {}
    rows = found["data"]["result"]
    return {row["metric"].get("instance", ""): float(row["value"][1]) for row in rows}


def query_labels(fleet: Fleet, expression: str) -> list[dict[str, str]]:
    """The labels of an expression's samples."""
    url = f"http://{SERVER}/api/v1/query?query={quote(expression)}"
    found: dict[str, Any] = json.loads(page_at(fleet, "lan", url, 10))
    return [row["metric"] for row in found["data"]["result"]]


def targets() -> set[str]:
    jobs = scrape_configs()["scrape_configs"]
    return {one for job in jobs for group in job["static_configs"] for one in group["targets"]}


def test_prometheus_scrapes_controller_and_agents_with_the_pages_configuration(
    fleet: Fleet, tmp_path: Path
) -> None:
    expected = {f"{address}:{AGENT_METRICS_PORT}" for address in HOSTS.values()}
    expected.add(f"10.99.0.1:{CONTROLLER_METRICS_PORT}")
    assert targets() == expected
    with prometheus(fleet, tmp_path):
        fleet.until(lambda: query(fleet, "up") == dict.fromkeys(expected, 1.0), "all are scraped")
        leader = query(fleet, "pyswarm_controller_is_leader")
        assert leader == {f"10.99.0.1:{CONTROLLER_METRICS_PORT}": 1.0}
        connected = query(fleet, "pyswarm_agent_session_connected")
        assert set(connected.values()) == {1.0}
        assert len(connected) == 3
        # A wrong token: the same Prometheus gets nothing any more.
        (tmp_path / "pyswarm-scrape-token").write_text("PYSWS-1-wrong\n")
        fleet.until(lambda: set(query(fleet, "up").values()) == {0.0}, "no target answers")


def test_prometheus_and_stats_show_what_containers_use(
    fleet: Fleet, service: str, tmp_path: Path
) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "2",
          "--limit-memory", "64M", "--limit-cpu", "0.05", "--restart-delay", "0s",
          "--entrypoint", "sh", IMAGE, "-c", "while :; do :; done")  # fmt: skip
    here, there = fleet.running(service)
    connect = f"echo > /dev/tcp/{fleet.address(there['ID'])}/80"
    assert "refused" in fleet.inside(here["ID"], "bash", "-c", connect).err
    of_service = f'{{service="{service}"}}'
    with prometheus(fleet, tmp_path):

        def total(name: str, *more: str) -> float:
            labels = ",".join((f'service="{service}"', *more))
            return query(fleet, f"sum(pyswarm_container_{name}{{{labels}}})").get("", 0)

        fleet.until(lambda: total("pids") == 2, "both containers are scraped")
        fleet.until(lambda: total("cpu_seconds_total", 'mode="user"') > 0, "they use the CPU")
        fleet.until(lambda: total("cpu_throttled_periods_total") > 0, "they are throttled")
        assert total("memory_limit_bytes") == 2 * (64 << 20)
        assert total("memory_working_set_bytes") > 0
        for direction in ("receive", "transmit"):
            assert total("network_packets_total", f'direction="{direction}"') >= 2
        labels = query_labels(fleet, f"pyswarm_container_start_time_seconds{of_service}")
        assert {(one["task"], one["slot"], one["node"]) for one in labels} == {
            (task["ID"], task["Name"].rpartition(".")[2], task["Node"]) for task in (here, there)
        }
        # A restart in place of the failed process is one of the slot.
        fleet("task", "signal", "--signal", "KILL", here["ID"])
        again = f'slot="{here["Name"].rpartition(".")[2]}"'
        fleet.until(lambda: total("restarts_total", again) == 1, "the restart is counted")
    (first, second) = fleet.rows("stats", "--no-stream", service)
    assert [first["Name"], second["Name"]] == [f"{service}.1", f"{service}.2"]
    for row in (first, second):
        assert 0 < float(row["CPUPerc"].removesuffix("%")) < 50
        assert row["MemUsage"].endswith(" / 64MiB")
        assert row["PIDs"] == "1"
    assert {first["Node"], second["Node"]} == {task["Node"] for task in fleet.running(service)}


def test_the_metrics_are_what_prometheus_recommends(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--mode", "global",
          "--health-cmd", "true", IMAGE)  # fmt: skip
    for address in HOSTS.values():
        fetch = partial(fleet.scraper.fetch, address, AGENT_METRICS_PORT, 10)
        text = inside(fleet.netns("lan"), fetch)
        named = f'pyswarm_container_healthy{{service="{service}",'
        (line,) = [line for line in text.splitlines() if line.startswith(named)]
        assert f'node="host{address[-1]}"}}' in line
        command = ("promtool", "check", "metrics")
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def reads(fleet: Fleet, scraper: Scraper, address: str, port: int) -> bool:
    try:
        text = inside(fleet.netns("lan"), lambda: scraper.fetch(address, port, 10))
    except HTTPException as refused:
        if "answered 401" not in str(refused):
            raise
        return False
    return "python_gc" in text


def test_a_rotated_token_replaces_the_former_one_everywhere(fleet: Fleet) -> None:
    ca = fleet("swarm", "ca")
    former = Scraper(ca, fleet("swarm", "scrape-token"))
    places = [("10.99.0.1", CONTROLLER_METRICS_PORT)]
    places += [(address, AGENT_METRICS_PORT) for address in HOSTS.values()]
    assert all(reads(fleet, former, *place) for place in places)
    newest = Scraper(ca, fleet("swarm", "scrape-token", "--rotate"))
    assert newest.token == fleet("swarm", "scrape-token") != former.token
    for place in places:
        fleet.until(lambda p=place: reads(fleet, newest, *p), "the new token is known")  # type: ignore[misc]
        assert not reads(fleet, former, *place)
    fleet.scraper = newest


def test_no_agent_stores_the_token(fleet: Fleet) -> None:
    files = [path for path in (fleet.state_dir / "host2").glob("*.json") if path.is_file()]
    assert files
    token = fleet.scraper.token.encode()
    assert not [path for path in files if token in path.read_bytes()]


def test_health_tells_a_leader_and_connected_agents(fleet: Fleet) -> None:
    for address, port in (
        ("10.99.0.1", CONTROLLER_HEALTH_PORT),
        *((address, AGENT_HEALTH_PORT) for address in HOSTS.values()),
    ):
        for path in ("healthz", "readyz"):
            assert page_at(fleet, "lan", f"http://{address}:{port}/{path}", 10) == "ok\n"
        with pytest.raises(HTTPError, match="404") as refused:
            page_at(fleet, "lan", f"http://{address}:{port}/metrics", 10)
        refused.value.close()
