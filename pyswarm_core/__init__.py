"""The words that controller, agent and CLI share: ids, specs, objects, states, the state index and
the wire codec.
"""

import os

# gRPC's Python API has no option against TLS 1.2. This leaves TLS 1.2 only a cipher of RSA
# certificates, and a fleet has none; TLS 1.3 has its own ciphers. gRPC reads the variable while it
# is imported, so it is set here: every program imports this package before gRPC.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"
# gRPC would log a line for every failed handshake, which anybody can cause.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
