"""What `network connect` and `disconnect` do to the spec of a container. PURE.

Raises what Docker's daemon answers, in its words. A spec without networks is that of a container on
`bridge`; one that has left all its networks is on `none`.
"""

import msgspec
from msgspec.structs import replace

from cli.service.spec.template import put
from pyswarm_core.errors import Conflict, quoted
from pyswarm_core.ports import published_word
from pyswarm_core.specs import (
    BRIDGE_NETWORK,
    HOST_NETWORK,
    NO_NETWORK,
    NetworkAttachment,
    PublishMode,
    ServiceSpec,
)
from pyswarm_core.validation import Problem, require
from pyswarm_core.validation.endpoint import attachment_problems

_HOST = "container cannot be disconnected from host network or connected to host network"
_NONE = (
    "container cannot be connected to multiple networks with one of the networks in private (none)"
    " mode"
)
_FLAGS = {"alias": "--alias"}


class Joined(msgspec.Struct, frozen=True):
    """A network that a command names."""

    target: str
    """Its id, or the name of a predefined network."""
    name: str
    ingress: bool = False


def attachment(network: Joined, aliases: tuple[str, ...], ip: str) -> NetworkAttachment:
    """What the flags say of the container on the network. Raises InvalidArgument."""
    found = NetworkAttachment(target=network.target, aliases=aliases, task_ip=ip)
    problems = attachment_problems((found,), is_container=True)
    require([_typed(problem) for problem in problems])
    return found


def connected(spec: ServiceSpec, network: Joined, joins: NetworkAttachment) -> ServiceSpec:
    """The spec of a container that joins one network more. Raises Conflict."""
    _require_container(spec, network, "connect", "--network-add")
    if network.target == HOST_NETWORK:
        raise Conflict(_HOST)
    if network.target == NO_NETWORK:
        raise Conflict(_NONE)
    if network.ingress:
        raise Conflict(
            f"network {quoted(network.name)} is the routing mesh: containers join it by publishing"
            " a port"
        )
    networks = _networks(spec)
    if any(one.target == network.target for one in networks):
        name = spec.name
        raise Conflict(f"endpoint with name {name} already exists in network {network.name}")
    return put(spec, "task_template.networks", (*networks, joins))


def disconnected(spec: ServiceSpec, network: Joined) -> ServiceSpec:
    """The spec of a container that leaves the network. Raises Conflict."""
    _require_container(spec, network, "disconnect", "--network-rm")
    if network.target == HOST_NETWORK:
        raise Conflict(_HOST)
    networks = _networks(spec)
    left = tuple(one for one in networks if one.target != network.target)
    if network.ingress or left == networks:
        raise Conflict(f"container {spec.name} is not connected to the network {network.name}")
    ports = [p for p in spec.endpoint_spec.ports if p.publish_mode is PublishMode.HOST]
    if not left and ports:
        raise Conflict(
            f"container {spec.name} publishes port {published_word(ports[0])} in mode host:"
            " connect it to another network first"
        )
    return put(spec, "task_template.networks", left or (NetworkAttachment(target=NO_NETWORK),))


def _require_container(spec: ServiceSpec, network: Joined, verb: str, flag: str) -> None:
    if not spec.mode.is_container:
        raise Conflict(
            f"cannot {verb} {quoted(spec.name)}: it is a service, whose tasks are replaced by"
            f" `pyswarm service update {flag} {network.name} {spec.name}`"
        )


def _networks(spec: ServiceSpec) -> tuple[NetworkAttachment, ...]:
    """The networks that the container is on."""
    networks = spec.task_template.networks or (NetworkAttachment(target=BRIDGE_NETWORK),)
    if networks[0].target == HOST_NETWORK:
        raise Conflict(_HOST)
    return tuple(one for one in networks if one.target != NO_NETWORK)


def _typed(problem: Problem) -> Problem:
    """The problem with the flag that was typed."""
    flag = (
        _FLAGS.get(problem.what, problem.field) if problem.field == "--network" else problem.field
    )
    return replace(problem, field=flag, what="value")
