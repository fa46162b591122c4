"""HTTP servers of the daemons: metrics and health, for callers that gRPC's port is not for."""
