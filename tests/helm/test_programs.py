"""The chart and the programs agree: flags, their values, variables, ports, health and metrics."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import agent.__main__
import controller.__main__
from pyswarm_core.identity.trust import AGENT_NAME, SERVER_NAME
from pyswarm_core.limits import (
    AGENT_HEALTH_PORT,
    AGENT_METRICS_PORT,
    API_PORT,
    CONTROLLER_HEALTH_PORT,
    CONTROLLER_METRICS_PORT,
)
from tests.fixtures.source import ROOT
from tests.helm.rendering import SETS, Rendered, rendered, variables

COMMANDS: dict[str, click.Command] = {
    "agent": agent.__main__.main,
    "controller": controller.__main__.main,
}
each_set = pytest.mark.parametrize("name", SETS)


def parsed(component: str, words: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What the program makes of the words; mounted files are taken to exist."""
    for mentioned in ("ca.crt", "tls.crt", "tls.key", "encryption.key"):
        (folder / mentioned).touch()
    here = [re.sub("=/etc/pyswarm/[a-z]+/", f"={folder}/", word) for word in words]
    return COMMANDS[component].make_context(component, here).params


@pytest.mark.parametrize("component", COMMANDS)
def test_every_flag_that_is_rendered_is_in_the_programs_help(component: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", component, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    known = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", done.stdout, re.MULTILINE))
    known |= set(re.findall(r"^  --[a-z-]+ / (--[a-z-]+)", done.stdout, re.MULTILINE))
    for name in SETS:
        if component in rendered(name).workloads:
            used = {word.partition("=")[0] for word in rendered(name).arguments(component)}
            assert used
            assert used <= known


@each_set
def test_the_controller_understands_its_arguments(name: str, tmp_path: Path) -> None:
    flags = parsed("controller", rendered(name).arguments("controller"), tmp_path)
    config = controller.__main__.make_config(flags)
    assert config.listen[0] == f"0.0.0.0:{API_PORT}"
    assert config.etcd.endpoints
    assert config.key_file == tmp_path / "encryption.key"
    assert not config.advertise_addr.startswith("0.0.0.0")
    assert config.metrics_addr in ("", f"0.0.0.0:{CONTROLLER_METRICS_PORT}")
    assert config.registry_addr == ("0.0.0.0:2378" if name == "everything" else "")


@pytest.mark.parametrize("name", [name for name in SETS if "agent" in rendered(name).workloads])
def test_the_agent_understands_its_arguments(name: str, tmp_path: Path) -> None:
    flags = parsed("agent", rendered(name).arguments("agent"), tmp_path)
    config = agent.__main__._config(
        {key: value for key, value in flags.items() if key != "log_level"}
        | {"advertise_addr": "192.0.2.7"}
    )
    assert config.controllers[0].startswith("demo-pyswarm-controller.fleet.svc.")
    assert config.join_token_file == tmp_path / "token"
    assert config.nano_cpus > 0
    assert config.memory_bytes > 0


def test_fleet_and_network_settings_reach_the_controller(tmp_path: Path) -> None:
    flags = parsed("controller", rendered("everything").arguments("controller"), tmp_path)
    options = controller.__main__.make_config(flags).cluster
    assert options.default_address_pool == ("10.160.0.0/12", "10.176.0.0/12")
    assert (options.subnet_size, options.data_path_port) == (20, 14789)
    assert options.task_history_limit == 0


def test_labels_with_spaces_reach_the_agent_whole(tmp_path: Path) -> None:
    flags = parsed("agent", rendered("everything").arguments("agent"), tmp_path)
    assert flags["labels"] == ("disk=ssd", "zone=a b")


@pytest.mark.parametrize("component", COMMANDS)
def test_every_variable_of_ours_sets_a_flag(component: str) -> None:
    command = COMMANDS[component]
    prefix = command.context_settings["auto_envvar_prefix"]
    flags = {f"{prefix}_{each.name}".upper() for each in command.params}
    for name in SETS:
        if component in rendered(name).workloads:
            used = variables(rendered(name).container(component))
            assert {each for each in used if each.startswith("PYSWARM")} <= flags


def test_ports_are_those_of_the_programs() -> None:
    found = rendered()
    ports = {
        f"{part}.{port['name']}": port["containerPort"]
        for part in COMMANDS
        for port in found.container(part)["ports"]
    }
    assert ports == {
        "controller.api": API_PORT,
        "controller.health": CONTROLLER_HEALTH_PORT,
        "controller.metrics": CONTROLLER_METRICS_PORT,
        "agent.metrics": AGENT_METRICS_PORT,
    }
    (api,) = found.one("Service", "controller")["spec"]["ports"]
    assert api["port"] == API_PORT


def test_a_changed_health_port_changes_flag_and_probe() -> None:
    found = Rendered({"agent": {"healthPort": 19326}})
    assert "--health-addr=127.0.0.1:19326" in found.arguments("agent")
    assert found.container("agent")["readinessProbe"]["httpGet"]["port"] == 19326
    usual = rendered().arguments("agent")
    assert f"--health-addr=127.0.0.1:{AGENT_HEALTH_PORT}" in usual


def test_a_changed_metrics_port_changes_flag_port_and_service() -> None:
    found = rendered("everything")
    assert "--metrics-addr=$(PYSWARM_AGENT_ADVERTISE_ADDR):19324" in found.arguments("agent")
    (port,) = found.container("agent")["ports"]
    assert (port["containerPort"], port["hostPort"]) == (19324, 19324)
    (served,) = found.one("Service", "agent-metrics")["spec"]["ports"]
    assert served["port"] == 19324


def test_without_metrics_nothing_listens_or_is_asked() -> None:
    found = rendered("bare")
    assert "--metrics-addr=" in found.arguments("controller")
    assert [port["name"] for port in found.container("controller")["ports"]] == ["api", "health"]
    assert not [name for name in found.of_kind("Service") if name.endswith("-metrics")]


def test_variables_in_arguments_are_defined() -> None:
    for name in SETS:
        found = rendered(name)
        for part in found.workloads:
            container = found.container(part)
            used = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))
            assert used <= set(variables(container))


@each_set
def test_probes_ask_the_health_port(name: str) -> None:
    found = rendered(name)
    assert f"--health-addr=0.0.0.0:{CONTROLLER_HEALTH_PORT}" in found.arguments("controller")
    probes = {
        probe: found.container("controller")[f"{probe}Probe"]["httpGet"]
        for probe in ("startup", "liveness", "readiness")
    }
    assert {probe["port"] for probe in probes.values()} == {"health"}
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    if "agent" in found.workloads:
        asked = found.container("agent")["readinessProbe"]["httpGet"]
        address = f"--health-addr={asked['host']}:{asked['port']}"
        assert (address in found.arguments("agent"), asked["path"]) == (True, "/readyz")


def test_prometheus_verifies_each_component_by_its_name() -> None:
    found = Rendered({"metrics": {"serviceMonitor": {"enabled": True}}})
    names = {"agent": AGENT_NAME, "controller": SERVER_NAME}
    for component, name in names.items():
        monitor = found.one("ServiceMonitor", component)
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (endpoint["scheme"], endpoint["tlsConfig"]["serverName"]) == ("https", name)
        secrets = (endpoint["tlsConfig"]["ca"]["secret"], endpoint["authorization"]["credentials"])
        assert {each["name"] for each in secrets} == {"demo-pyswarm-scrape"}
    assert "create secret generic demo-pyswarm-scrape" in found.notes
    given = {"enabled": True, "existingSecret": "mine"}
    own = Rendered({"metrics": {"serviceMonitor": given}})
    (endpoint,) = own.one("ServiceMonitor", "agent")["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"]["name"] == "mine"
    assert "demo-pyswarm-scrape" not in own.notes


def test_the_command_line_in_the_controllers_pod_finds_its_socket() -> None:
    from cli.context.model import DEFAULT_HOST

    assert f"--listen={DEFAULT_HOST}" in rendered().arguments("controller")


def test_the_commands_in_the_notes_exist() -> None:
    lines = re.findall(r"(?:-- |inside )pyswarm ([^\\\n>]+)", rendered().notes)
    assert [" ".join(line.split()[:2]) for line in lines] == [
        *("swarm join-token", "user create", "context create", "context export", "context rm"),
        "node ls",
    ]
    for line in lines:
        words = [sys.executable, "-c", "from cli.main import main; main()", *line.split(), "--help"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        assert f"pyswarm {line.split()[0]}" in done.stdout
