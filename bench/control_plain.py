"""`python -m bench.control_plain FLAGS`: a controller that serves its port without TLS. SHELL.

Only for a comparison in the same run: agents say which node they are in the metadata of a call, in
place of a certificate. Everything else is the controller's.
"""

import grpc

from bench.control_rig import NODE_KEY
from controller.__main__ import main
from controller.grpc import dispatcher, peers
from controller.grpc.authentication import Authentication
from controller.grpc.calls import Context
from controller.grpc.opencalls import Identity
from controller.identity.caller import ROOT, Caller, CallerKind
from pyswarm_core.aio.daemon import run_daemon
from pyswarm_core.ids import NodeId


def _agent_of(context: Context) -> NodeId:
    metadata = dict(context.invocation_metadata() or ())
    return NodeId(str(metadata[NODE_KEY]))


def _identity(
    authentication: Authentication, method: str, bearer: str, context: Context
) -> Identity:
    if context.peer().startswith("unix:"):
        return Identity(ROOT)
    return Identity(Caller(CallerKind.AGENT, _agent_of(context)))


def _add_plain_port(server: grpc.aio.Server, address: str, _: grpc.ServerCredentials) -> int:
    return server.add_insecure_port(address)


if __name__ == "__main__":
    for module in (dispatcher, peers):
        module.agent_of = _agent_of  # type: ignore[attr-defined]
    Authentication._identity = _identity  # type: ignore[assignment,method-assign]
    grpc.aio._server.Server.add_secure_port = _add_plain_port  # type: ignore[attr-defined]
    run_daemon(main)
