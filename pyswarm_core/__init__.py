"""The words that controller, agent and CLI share: ids, specs, objects, states, the state index and
the wire codec.

gRPC's Python API accepts TLS 1.2 and has no option against it. The environment variable that this
package sets does: it leaves TLS 1.2 only a cipher of RSA certificates, which no fleet has (an etcd
of the user's may have one), and does not concern TLS 1.3. gRPC reads it when it is imported, so
that every program imports this package before.
"""

import os

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"
