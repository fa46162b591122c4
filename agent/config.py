"""What an agent is told at its start: one frozen value, made once. PURE."""

from pathlib import Path

import msgspec

from pyswarm_core.limits import AGENT_METRICS_PORT


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's settings; `python -m agent --help` explains each."""

    state_dir: Path
    run_dir: Path
    controllers: tuple[str, ...] = ()
    join_token: str = ""
    hostname: str
    advertise_addr: str
    availability: str = "active"
    fleet: str = "psw"
    cgroup_parent: str = "/pyswarm"
    bridge_subnet: str = "10.127.0.0/16"
    data_path_port: int = 4789
    nano_cpus: int
    memory_bytes: int
    labels: dict[str, str] = {}
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_auth_file: Path = Path("/root/.docker/config.json")
    pull_stall_s: float = 30.0
    log_max_size: int = 10 * 1024 * 1024
    log_max_file: int = 3
    metrics_addr: str = f"127.0.0.1:{AGENT_METRICS_PORT}"
    resolv_conf: Path = Path("/etc/resolv.conf")
