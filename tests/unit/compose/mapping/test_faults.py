"""What cannot be mapped is reported at its line: all faults at once."""

import pytest

from tests.fixtures.mapping import faults, file_of

FAULTS = [
    ("hostname: a_b", '4:15: services.a.hostname: "a_b" is not valid: expected at most 64'),
    ("cap_add: [CHOWN, NOPE]", "4:14: services.a.cap_add"),
    ("sysctls: {kernel.x: 1}", '4:25: services.a.sysctls.kernel.x: "kernel.x" is not valid'),
    ("ulimits: {nope: 1}", '4:21: services.a.ulimits.nope: "nope=1" is not valid'),
    ("dns: [10.0.0.1, x]", '4:21: services.a.dns[1]: "x" is not valid: expected an IP address'),
    ("extra_hosts: [a=b]", '4:19: services.a.extra_hosts[0]: "b a" is not valid'),
    ("stop_signal: NOPE", '4:18: services.a.stop_signal: "NOPE" is not valid'),
    ("user: a b", '4:11: services.a.user: "a b" is not valid: expected NAME|UID[:GROUP|GID]'),
    ("working_dir: w", '4:18: services.a.working_dir: "w" is not valid: expected an absolute'),
    ("mem_limit: 1k", "4:16: services.a.mem_limit: 1024 is not valid: expected 0, or 6MiB to"),
    (
        "deploy: {resources: {limits: {memory: 1k}}}",
        "4:43: services.a.deploy.resources.limits.memory: 1024 is not valid: expected 0, or 6MiB",
    ),
    ("cpus: 0.0000000001", "4:11: services.a.cpus: 1e-10 is not valid: expected at most nine"),
    ("memswap_limit: 1g", "4:20: services.a.memswap_limit: 1073741824 is not valid: expected"),
    (
        "memswap_limit: 1m\nmem_limit: 64m",
        "4:20: services.a.memswap_limit: 1048576 is not valid: expected at least the value of",
    ),
    ("cpuset: a", '4:13: services.a.cpuset: "a" is not valid: expected numbers and ranges'),
    ("platform: amiga", '4:15: services.a.platform: "amiga" is not valid: expected OS/ARCH'),
    (
        "deploy: {placement: {constraints: [node.role==boss]}}",
        '4:40: services.a.deploy.placement.constraints[0]: "node.role==boss" is not valid',
    ),
    (
        "deploy: {placement: {preferences: [{spread: zone}]}}",
        '4:49: services.a.deploy.placement.preferences[0].spread: "zone" is not valid',
    ),
    (
        "deploy: {mode: replicated-job}",
        "4:20: services.a.deploy.mode: a fleet does not have it: there are no jobs",
    ),
    (
        "deploy: {rollback_config: {failure_action: rollback}}",
        '4:48: services.a.deploy.rollback_config.failure_action: "rollback" is not valid',
    ),
    ("tmpfs: [/t:nope=1]", '4:13: services.a.tmpfs[0]: "/t:nope=1" is not valid'),
    ("security_opt: [nope]", '4:20: services.a.security_opt[0]: "nope" is not valid'),
    (
        "security_opt: ['seccomp:p.json']",
        '4:20: services.a.security_opt[0]: "seccomp:p.json" is not valid: the profile cannot be',
    ),
    (
        "gpus: [{capabilities: [tpu]}]",
        "4:12: services.a.gpus[0]: tpu: no such devices: expected capabilities: [gpu]",
    ),
    (
        "logging: {driver: local, options: {nope: 1}}",
        '4:46: services.a.logging.options.nope: "nope=1" is not valid',
    ),
    (
        "networks: {default: {aliases: [a b]}}",
        "4:36: services.a.networks.default.aliases[0]: alias",
    ),
    (
        "environment: {'A B': x}",
        '4:26: services.a.environment.A B: "A B" is not valid: expected NAME=VALUE',
    ),
    ("volumes: ['/srv:/proc/x']", '4:15: services.a.volumes[0]: "type=bind,source=/srv,'),
    (
        "volumes: [{type: bind, source: /srv, target: /a, bind: {recursive: readonly}}]",
        "4:72: services.a.volumes[0].bind.recursive: readonly is not valid: expected readonly",
    ),
    (
        "volumes: [{type: volume, source: v, target: /a, volume: {subpath: ../x}}]",
        '4:71: services.a.volumes[0].volume.subpath: volume-subpath "../x" is not valid',
    ),
]


@pytest.mark.parametrize(("lines", "told"), FAULTS, ids=[lines for lines, _ in FAULTS])
def test_a_fault_names_line_key_value_and_what_is_valid(lines: str, told: str) -> None:
    found = faults(file_of(lines, "volumes: {v: }\n"))
    assert len(found) == 1
    assert found[0].startswith(f"compose.yaml:{told}")
