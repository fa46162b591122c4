"""Conversion of service specs to Docker's API, and of its tasks to `Replica`. PURE.

Only the fields that benchmarks use are converted.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.system import Replica
from pyswarm_core.specs import ReplicatedMode, ServiceSpec


def service(
    spec: ServiceSpec, images: Mapping[str, str], networks: Mapping[str, str], mode: str
) -> dict[str, Any]:
    """The spec of a service. The image is an id, because an engine resolves names at Docker Hub."""
    template = spec.task_template
    container, limits = template.container_spec, template.resources.limits
    replicated, restart = spec.mode, template.restart_policy
    assert isinstance(replicated, ReplicatedMode)
    return {
        "Name": spec.name,
        "Mode": {"Replicated": {"Replicas": replicated.replicas}},
        "TaskTemplate": {
            "ContainerSpec": {"Image": images[container.image], "Env": list(container.env)},
            "Resources": {
                "Limits": {
                    "NanoCPUs": limits.nano_cpus,
                    "MemoryBytes": limits.memory_bytes,
                    "Pids": limits.pids,
                }
            },
            "RestartPolicy": {"Condition": "any", "Delay": restart.delay},
            "Placement": {"Constraints": list(template.placement.constraints)},
            "Networks": [{"Target": networks[n.target]} for n in template.networks],
        },
        "UpdateConfig": {
            "Parallelism": spec.update_config.parallelism,
            "Delay": spec.update_config.delay,
            "FailureAction": spec.update_config.failure_action.value,
            "Monitor": spec.update_config.monitor,
            "MaxFailureRatio": spec.update_config.max_failure_ratio,
            "Order": spec.update_config.order.value,
        },
        "EndpointSpec": {
            "Mode": mode,
            "Ports": [
                {
                    "Protocol": "tcp",
                    "TargetPort": port.target_port,
                    "PublishedPort": port.published_port,
                    "PublishMode": "ingress",
                }
                for port in spec.endpoint_spec.ports
            ],
        },
    }


def replicas(
    tasks: Iterable[Mapping[str, Any]], hosts: Mapping[str, str], network: str
) -> list[Replica]:
    """The running tasks; `hosts` are the nodes' names by id, `network` is an id."""
    return [
        Replica(
            slot=task["Slot"],
            task=task["ID"],
            pid=task["Status"]["ContainerStatus"]["PID"],
            host=hosts[task["NodeID"]],
            address=next(
                address.partition("/")[0]
                for attachment in task["NetworksAttachments"]
                if attachment["Network"]["ID"] == network
                for address in attachment["Addresses"]
            ),
        )
        for task in tasks
        if task["Status"]["State"] == "running" and task["DesiredState"] == "running"
    ]
